//! Our side of `cargo xtask bench sim`: lists the workloads, writes them out for the peers, and times runs that
//! it is asked for one at a time, so that ours and theirs can alternate.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

mod export;
mod workloads;

use qmk_abi::image::{Image, Instr, Op};
use qmk_abi::syscall::{Quota, Run};
use qmk_abi::{Handle, Reply, Syscall};
use qmk_hal::{Device, Inline, SpaceSpec};
use qmk_kernel::{DomainId, Kernel};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::dense::Dense;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;
use workloads::{Row, Workload};

const USAGE: &str = "usage: sim list | list-check | export DIR | serve; `cargo xtask bench sim` drives it";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Cargo adds a flag of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["list"] => list(&workloads::rows()),
        ["list-check"] => list(&workloads::check_rows()),
        ["export", dir] => export(Path::new(dir))?,
        ["serve"] => serve()?,
        _ => eprintln!("{USAGE}"),
    }
    Ok(())
}

fn all() -> impl Iterator<Item = Row> {
    workloads::rows().into_iter().chain(workloads::check_rows())
}

fn list(rows: &[Row]) {
    for row in rows {
        println!("{} {} {} {}", row.name, row.shots, row.ours, row.peers.join(","));
    }
}

fn export(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    for row in all() {
        let path = dir.join(&row.name);
        // A workload has several rows, and its text does not change while we run.
        if !path.with_extension("stim").exists() {
            let workload = (row.build)();
            std::fs::write(path.with_extension("native"), export::native(&workload))?;
            std::fs::write(path.with_extension("stim"), export::stim(&workload))?;
        }
    }
    Ok(())
}

/// Answers `run HOW SHOTS REPEATS NAME` by `ok NANOSECONDS INSTRUCTIONS`, the median time, and `sample HOW SHOTS 1
/// NAME` by `ok` and a line of outcomes for each shot. What goes wrong is answered by `error MESSAGE`.
fn serve() -> Result<(), Failure> {
    let rows: Vec<Row> = all().collect();
    let mut loaded: Option<(String, Workload)> = None;
    let mut seed = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, how, shots, repeats, name] = words[..] else { return Err(format!("not understood: {line}").into()) };
        let (shots, repeats): (u64, usize) = (shots.parse()?, repeats.parse()?);
        if loaded.as_ref().is_none_or(|(n, _)| n != name) {
            let row = rows.iter().find(|r| r.name == name).ok_or_else(|| format!("no workload {name}"))?;
            loaded = Some((name.into(), (row.build)()));
        }
        let Some((_, workload)) = &loaded else { continue };
        let mut run = || {
            seed += 1;
            let time = |run: &mut dyn FnMut() -> Result<Vec<u8>, Failure>| {
                let start = Instant::now();
                let outcomes = run()?;
                Ok::<_, Failure>((start.elapsed().as_nanos(), black_box(outcomes)))
            };
            // A caller of the kernel gives its image away, and needs no copy to do so.
            let image = || (*workload.image).clone();
            match how {
                "device" => time(&mut || device(workload, shots, seed)),
                "kernel" => {
                    let mut image = image();
                    time(&mut || Tenant::new()?.admit(std::mem::take(&mut image))?.run(shots, seed))
                }
                "admitted" => {
                    let mut program = Tenant::new()?.admit(image())?;
                    // What a program takes is worked out when it is first run.
                    program.run(1, 0)?;
                    time(&mut || program.run(shots, seed))
                }
                "perform" => time(&mut || perform(workload)),
                "apply" => time(&mut || Tenant::new()?.apply(workload)),
                _ => time(&mut || Ok(reference(workload))),
            }
        };
        let done: Result<Vec<_>, _> = (0..repeats).map(|_| run()).collect();
        let mut out = std::io::stdout().lock();
        match done {
            Err(e) => writeln!(out, "error {e}")?,
            Ok(mut runs) => {
                runs.sort();
                let (time, outcomes) = &runs[repeats / 2];
                if what == "run" {
                    writeln!(out, "ok {time} {}", workload.image.code.len())?;
                } else {
                    writeln!(out, "ok")?;
                    for shot in outcomes.chunks(workload.image.events.div_ceil(8) as usize) {
                        let bit = |e: u32| if shot[e as usize / 8] >> (e % 8) & 1 == 1 { '1' } else { '0' };
                        writeln!(out, "{}", (0..workload.image.events).map(bit).collect::<String>())?;
                    }
                }
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// Peers run on one thread, so we do.
fn machine() -> SimDevice {
    SimDevice::new(SimConfig { threads: 1, ..SimConfig::default() })
}

fn device(w: &Workload, shots: u64, seed: u64) -> Result<Vec<u8>, Failure> {
    let mut device = machine();
    let (image, noise) = (w.image.clone(), w.noise.clone());
    let space = device.open(SpaceSpec { image, noise, shots, seed, max_active: 30, ..SpaceSpec::default() })?;
    device.issue_range(space, 0..w.image.code.len() as u32)?;
    while device.work(space, u64::MAX)?.shots_done < shots {}
    let mut outcomes = Vec::new();
    device.outcomes(space, 0, shots as u32, &mut outcomes);
    device.close(space);
    Ok(outcomes)
}

/// The program's operations one by one, on qubits that are held.
fn perform(w: &Workload) -> Result<Vec<u8>, Failure> {
    let mut device = machine();
    let space = device.open(SpaceSpec { shots: 1, max_active: 16, ..SpaceSpec::default() })?;
    let mut outcomes = Vec::new();
    for &instr in w.image.code.iter().filter(|i| !matches!(i.op, Op::Alloc(_) | Op::Free(_))) {
        device.perform(space, instr)?;
        outcomes.extend(instr.op.writes().map(|e| device.outcome(space, 0, e) as u8));
    }
    Ok(outcomes)
}

/// The root of a kernel of its own.
struct Tenant {
    kernel: Kernel<SimDevice>,
    id: DomainId,
    machine: Handle,
}

impl Tenant {
    fn new() -> Result<Self, Failure> {
        let (kernel, id, machine) = Kernel::boot(machine(), 0, Quota { active: 30, ..Quota::UNLIMITED });
        Ok(Tenant { kernel, id, machine })
    }

    fn call(&mut self, call: Syscall) -> Result<Reply, Failure> {
        self.kernel.syscall(self.id, call).map_err(|e| format!("{e:?}").into())
    }

    fn handle(&mut self, call: Syscall) -> Result<Handle, Failure> {
        match self.call(call)? {
            Reply::Handle(handle) => Ok(handle),
            other => Err(format!("{other:?}").into()),
        }
    }

    fn admit(mut self, image: Image) -> Result<Admitted, Failure> {
        let stride = image.events.div_ceil(8) as u64;
        let image = self.handle(Syscall::Admit { machine: self.machine, image })?;
        Ok(Admitted { tenant: self, image, stride })
    }

    fn apply(&mut self, w: &Workload) -> Result<Vec<u8>, Failure> {
        let machine = self.machine;
        let take = |_| self.handle(Syscall::TakeQubit { machine });
        let held = (0..w.image.qubits).map(take).collect::<Result<Vec<_>, _>>()?;
        let mut outcomes = Vec::new();
        for &Instr { op, .. } in w.image.code.iter().filter(|i| !matches!(i.op, Op::Alloc(_) | Op::Free(_))) {
            let ([a, b, _], count) = op.operands();
            let op = op.map_qubits(|q| (q != a) as u32);
            let qubits = [a, b].into_iter().take(count).map(|q| held[q as usize]).collect();
            match self.call(Syscall::Apply { machine, op, qubits })? {
                Reply::Applied { outcomes: bits, .. } => outcomes.extend(bits.into_iter().map(|b| b as u8)),
                other => return Err(format!("{other:?}").into()),
            }
        }
        Ok(outcomes)
    }
}

struct Admitted {
    tenant: Tenant,
    image: Handle,
    stride: u64,
}

impl Admitted {
    fn run(&mut self, shots: u64, seed: u64) -> Result<Vec<u8>, Failure> {
        let Admitted { tenant, image, stride } = self;
        let run = Run { shots, seed, ..Run::default() };
        let strand = tenant.handle(Syscall::Spawn { machine: tenant.machine, image: *image, run })?;
        while tenant.kernel.advance_by(u64::MAX).busy {}
        let mut outcomes = Vec::new();
        // The kernel bounds a reply, so it may hold fewer shots than were asked for.
        while (outcomes.len() as u64) < shots * *stride {
            let first = outcomes.len() as u64 / *stride;
            match tenant.call(Syscall::Outcomes { strand, first, count: (shots - first) as u32 })? {
                Reply::Outcomes(bytes) if !bytes.is_empty() => outcomes.extend(bytes),
                other => return Err(format!("{other:?}").into()),
            }
        }
        Ok(outcomes)
    }
}

/// The dense reference of the tests: final state only.
fn reference(w: &Workload) -> Vec<u8> {
    let mut state = Dense::new(w.image.qubits as usize);
    w.image.code.iter().for_each(|i| export::apply(&mut state, &i.op));
    vec![(state.probability_of_one(0) > 0.5) as u8]
}
