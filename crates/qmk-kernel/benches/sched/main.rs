//! How well the scheduler uses a machine and shares it: `cargo xtask bench sched`.
//!
//! A mix is run to its end on a modelled machine. The makespan is compared with what no scheduler can beat: the longest
//! critical path, and for magic states, routes and patches, what all programs take over what the machine has in an
//! epoch.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

#[path = "../machine/mod.rs"]
mod machine;
mod mixes;
mod programs;

use machine::{Modelled, Taken};
use mixes::{Mix, Site, Tenant};
use qmk_abi::image::Image;
use qmk_abi::syscall::{Patch, Quota, Run, StrandStatus};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_hal::Device;
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_testkit::Rng;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;

/// Makespan over lower bound.
const RATIO: f64 = 1.15;
/// Jain's index of what tenants get for their weights while all want more.
const JAIN: f64 = 0.99;
/// Epochs after which no other overtakes a program that waits for patches.
const PATIENCE: u64 = 1024;
/// A tenant wants more until this part of its instructions is issued; at the end of a program it is the critical path
/// that tells how much it can use.
const BACKLOGGED: f64 = 0.9;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut only, mut as_json, mut out) = (String::new(), false, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--only" => only = args.next().unwrap_or_default(),
            "--json" => as_json = true,
            "--out" => out = args.next(),
            // Cargo adds it.
            "--bench" => {}
            _ => {
                eprintln!("usage: sched [--only TEXT] [--json] [--out FILE]; `cargo xtask bench sched` drives it");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut add = |name: &str, row: &dyn Fn() -> Row| {
        if name.contains(&only) {
            let row = row();
            if !as_json {
                row.print(rows.last());
            }
            rows.push(row);
        }
    };
    for mix in mixes::all() {
        add(&mix.name, &|| makespan(&mix));
    }
    for mix in mixes::loads() {
        add(&format!("late: {}", mix.name), &|| late(&mix));
        add(&format!("deadlines: {}", mix.name), &|| deadlines(&mix));
    }
    let missed = rows.iter().filter(|r| !r.passes()).count();
    let report = Value::Array(rows.iter().map(Row::json).collect());
    if let Some(out) = out
        && let Err(e) = std::fs::write(&out, format!("{report:#}\n"))
    {
        eprintln!("{out}: {e}");
        return ExitCode::FAILURE;
    }
    if as_json {
        println!("{report:#}");
    } else {
        println!("\n{} of {} rows meet their goals: {}", rows.len() - missed, rows.len(), verdict(missed == 0));
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn verdict(passes: bool) -> &'static str {
    if passes { "PASS" } else { "FAIL" }
}

enum Row {
    Makespan { name: String, tenants: usize, strands: usize, makespan: u64, bound: Bound, jain: Option<f64> },
    Late { name: String, waited: u64, epochs: u64, alone: u64, longest: u64 },
    Deadlines { name: String, accepted: u32, refused: u32, missed: u32, tightest: f64 },
}

impl Row {
    fn ratio(makespan: u64, bound: &Bound) -> f64 {
        makespan as f64 / bound.most()
    }

    fn passes(&self) -> bool {
        match self {
            Row::Makespan { makespan, bound, jain, .. } => {
                Row::ratio(*makespan, bound) <= RATIO && jain.is_none_or(|j| j >= JAIN)
            }
            // The kernel's bound on waiting for patches.
            Row::Late { waited, longest, .. } => *waited <= PATIENCE + longest,
            Row::Deadlines { accepted, missed, .. } => *accepted > 0 && *missed == 0,
        }
    }

    fn print(&self, previous: Option<&Row>) {
        if previous.map(std::mem::discriminant) != Some(std::mem::discriminant(self)) {
            match self {
                Row::Makespan { .. } => println!(
                    "{:36} {:>7} {:>7} {:>8} {:>7} {:>7} {:>7} {:>7} {:>6} {:>7}",
                    "mix", "tenants", "strands", "makespan", "path", "magic", "routes", "area", "ratio", "Jain"
                ),
                Row::Late { .. } => println!(
                    "\n{:36} {:>7} {:>7} {:>9} {:>9}",
                    "one small program more", "waited", "ran", "alone", "longest"
                ),
                Row::Deadlines { .. } => println!(
                    "\n{:36} {:>8} {:>7} {:>7} {:>8}",
                    "deadlines under load", "accepted", "refused", "missed", "tightest"
                ),
            }
        }
        let verdict = verdict(self.passes());
        match self {
            Row::Makespan { name, tenants, strands, makespan, bound, jain } => {
                let Bound { path, magic, routes, area } = bound;
                let jain = jain.map_or("-".into(), |j| format!("{j:.4}"));
                let ratio = Row::ratio(*makespan, bound);
                println!(
                    "{name:36} {tenants:>7} {strands:>7} {makespan:>8} {path:>7.0} {magic:>7.0} {routes:>7.0} {area:>7.0} {ratio:>6.3} {jain:>7} {verdict}"
                );
            }
            Row::Late { name, waited, epochs, alone, longest } => {
                println!("{name:36} {waited:>7} {epochs:>7} {alone:>9} {longest:>9} {verdict}");
            }
            Row::Deadlines { name, accepted, refused, missed, tightest } => {
                println!("{name:36} {accepted:>8} {refused:>7} {missed:>7} {tightest:>8.3} {verdict}");
            }
        }
    }

    fn json(&self) -> Value {
        let mut value = match self {
            Row::Makespan { name, tenants, strands, makespan, bound, jain } => json!({
                "mix": name, "tenants": tenants, "strands": strands, "makespan": makespan, "path": bound.path,
                "magic": bound.magic, "routes": bound.routes, "area": bound.area, "ratio": Row::ratio(*makespan, bound), "jain": jain,
            }),
            Row::Late { name, waited, epochs, alone, longest } => {
                json!({ "late": name, "waited": waited, "epochs": epochs, "alone": alone, "longest_run": longest })
            }
            Row::Deadlines { name, accepted, refused, missed, tightest } => json!({
                "deadlines": name, "accepted": accepted, "refused": refused, "missed": missed, "tightest": tightest,
            }),
        };
        value["passes"] = self.passes().into();
        value
    }
}

/// What a program takes, whoever schedules it.
#[derive(Clone, Copy, Default)]
struct Demand {
    critical_path: u64,
    magic: u64,
    route_epochs: u64,
    qubits: u64,
}

fn demand(image: &Image, device: &Modelled) -> Demand {
    let mut demand = Demand { qubits: image.qubits as u64, ..Demand::default() };
    let mut free_at = vec![0; image.qubits as usize];
    for instr in &image.code {
        let cost = device.cost(&instr.op, Patch::default());
        let start = instr.op.qubits().map(|q| free_at[q as usize]).max().unwrap_or(0);
        let end = start + cost.cycles as u64;
        instr.op.qubits().for_each(|q| free_at[q as usize] = end);
        demand.critical_path = demand.critical_path.max(end);
        demand.magic += cost.magic as u64;
        demand.route_epochs += cost.routes as u64 * cost.cycles as u64;
    }
    demand
}

/// What no scheduler can beat.
struct Bound {
    path: f64,
    magic: f64,
    routes: f64,
    area: f64,
}

impl Bound {
    fn of(demands: &[Demand], site: &Site) -> Bound {
        let sum = |f: &dyn Fn(&Demand) -> u64| demands.iter().map(f).sum::<u64>() as f64;
        Bound {
            path: demands.iter().map(|d| d.critical_path).max().unwrap_or(0) as f64,
            magic: sum(&|d| d.magic) / site.magic as f64,
            routes: sum(&|d| d.route_epochs) / site.routes as f64,
            area: sum(&|d| d.qubits * d.critical_path) / site.qubits as f64,
        }
    }

    fn most(&self) -> f64 {
        [self.path, self.magic, self.routes, self.area].into_iter().fold(0.0, f64::max)
    }
}

/// A machine with its tenants.
struct Shop {
    kernel: Kernel<Modelled>,
    root: DomainId,
    machine: Handle,
    tenants: Vec<(DomainId, Handle)>,
}

impl Shop {
    fn open(site: &Site, metered: usize) -> Shop {
        let device = Modelled::new(site.qubits, site.routes, site.magic, metered);
        let (mut kernel, root, machine) = Kernel::boot(device, 0, Quota::UNLIMITED);
        kernel.set_clock(Clock::Lockstep);
        Shop { kernel, root, machine, tenants: Vec::new() }
    }

    fn call(&mut self, who: DomainId, call: Syscall) -> Handle {
        match self.kernel.syscall(who, call) {
            Ok(Reply::Handle(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    /// A new tenant; returns its number.
    fn enter(&mut self, weight: u32) -> usize {
        let (root, machine) = (self.root, self.machine);
        let quota = Quota { weight, ..Quota::UNLIMITED };
        let handle = self.call(root, Syscall::CreateDomain { machine, quota });
        let domain = self.kernel.domain_of(root, handle).expect("a new domain");
        let derive =
            Syscall::Derive { source: machine, rights: Rights::all(), badge: 0, into: Some(handle), budget: None };
        let machine = self.call(root, derive);
        self.tenants.push((domain, machine));
        self.tenants.len() - 1
    }

    fn admit(&mut self, tenant: usize, image: &Image) -> Handle {
        let (domain, machine) = self.tenants[tenant];
        self.call(domain, Syscall::Admit { machine, image: image.clone() })
    }

    fn spawn(&mut self, tenant: usize, image: Handle, deadline: Option<u64>) -> Result<Handle, KernelError> {
        let (domain, machine) = self.tenants[tenant];
        let run = Run { seed: tenant as u64, deadline, ..Run::default() };
        match self.kernel.syscall(domain, Syscall::Spawn { machine, image, run })? {
            Reply::Handle(handle) => Ok(handle),
            other => panic!("{other:?}"),
        }
    }

    /// Gives a tenant all its programs.
    fn submit(&mut self, tenant: usize, jobs: &[Arc<Image>]) -> Vec<(usize, Handle)> {
        let mut admitted: Vec<(&Arc<Image>, Handle)> = Vec::new();
        let mut strands = Vec::new();
        for job in jobs {
            let known = admitted.iter().find(|(image, _)| Arc::ptr_eq(image, job)).map(|a| a.1);
            let image = known.unwrap_or_else(|| self.admit(tenant, job));
            admitted.push((job, image));
            strands.push((tenant, self.spawn(tenant, image, None).expect("room for a strand")));
        }
        strands
    }

    fn status(&mut self, tenant: usize, strand: Handle) -> StrandStatus {
        match self.kernel.syscall(self.tenants[tenant].0, Syscall::Status { strand }) {
            Ok(Reply::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    fn qubits(&mut self, tenant: usize) -> u64 {
        match self.kernel.syscall(self.tenants[tenant].0, Syscall::Usage) {
            Ok(Reply::Usage { used, .. }) => used.qubits as u64,
            other => panic!("{other:?}"),
        }
    }

    fn fill(&mut self, tenants: &[Tenant]) -> Vec<(usize, Handle)> {
        let mut strands = Vec::new();
        // One tenant after the other, as it happens.
        for tenant in tenants {
            let id = self.enter(tenant.weight);
            strands.extend(self.submit(id, &tenant.jobs));
        }
        strands
    }
}

fn makespan(mix: &Mix) -> Row {
    let Mix { name, site, tenants, equal } = mix;
    let mut shop = Shop::open(site, tenants.len());
    let demands: Vec<Vec<Demand>> =
        tenants.iter().map(|t| t.jobs.iter().map(|j| demand(j, shop.kernel.device())).collect()).collect();
    let strands = shop.fill(tenants);
    let whole = [site.qubits, site.routes, site.magic].map(|w| w as f64);
    let instructions: Vec<f64> =
        tenants.iter().map(|t| t.jobs.iter().map(|j| j.code.len()).sum::<usize>() as f64).collect();
    let mut area = vec![0u64; tenants.len()];
    let (mut jain, mut backlogged) = (None, *equal && tenants.len() > 1);
    let mut observe = |area: &[u64], taken: &[Taken]| {
        backlogged &= taken.iter().zip(&instructions).all(|(t, all)| t.instructions as f64 <= BACKLOGGED * all);
        if backlogged {
            // Epochs of the whole machine that each tenant has had of its dominant resource, for its weight.
            let progress = tenants.iter().zip(area).zip(taken).map(|((tenant, &area), taken)| {
                let had = [area, taken.route_epochs, taken.magic].map(|h| h as f64);
                had.iter().zip(whole).map(|(h, w)| h / w).fold(0.0, f64::max) / tenant.weight as f64
            });
            let (sum, squares) = progress.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
            jain = Some(sum * sum / (tenants.len() as f64 * squares));
        }
    };
    loop {
        let report = shop.kernel.advance();
        for (tenant, area) in area.iter_mut().enumerate() {
            *area += shop.qubits(tenant);
        }
        observe(&area, &shop.kernel.device().taken);
        if !report.busy {
            break;
        }
    }
    // The first epoch is number 1, so a strand that starts at once has waited for 1.
    let makespan = strands.iter().map(|&(tenant, strand)| {
        let status = shop.status(tenant, strand);
        status.waited + status.epochs - 1
    });
    let makespan = makespan.max().unwrap_or(0);
    let demands: Vec<Demand> = demands.into_iter().flatten().collect();
    Row::Makespan {
        name: name.clone(),
        tenants: tenants.len(),
        strands: demands.len(),
        makespan,
        bound: Bound::of(&demands, site),
        jain,
    }
}

/// One more tenant comes with a small program when the machine has long been busy.
fn late(mix: &Mix) -> Row {
    let program = programs::adder(4, programs::whole);
    let mut alone = Shop::open(&mix.site, 0);
    let tenant = alone.enter(1);
    let strand = alone.submit(tenant, &[Arc::new(program.clone())])[0].1;
    while alone.kernel.advance().busy {}
    let alone = alone.status(tenant, strand).epochs;

    let mut shop = Shop::open(&mix.site, 0);
    let strands = shop.fill(&mix.tenants);
    (0..500).for_each(|_| _ = shop.kernel.advance());
    let tenant = shop.enter(1);
    let late = shop.submit(tenant, &[Arc::new(program)])[0].1;
    while shop.kernel.advance().busy {}
    let status = shop.status(tenant, late);
    let longest = strands.iter().map(|&(tenant, strand)| shop.status(tenant, strand).epochs).max().unwrap_or(0);
    Row::Late { name: mix.name.clone(), waited: status.waited - 1, epochs: status.epochs, alone, longest }
}

/// A tenant asks for deadlines from barely possible to easy, while others keep the machine busy.
fn deadlines(mix: &Mix) -> Row {
    let mut shop = Shop::open(&mix.site, 0);
    shop.fill(&mix.tenants);
    let tenant = shop.enter(1);
    let programs = [
        programs::adder(4, programs::whole),
        programs::qft(3),
        programs::random(6, 10, 3, 1),
        programs::ghz(8),
        programs::adder(2, programs::of_t),
    ];
    let programs = programs.map(|p| (demand(&p, shop.kernel.device()).critical_path, shop.admit(tenant, &p)));
    let mut dice = Rng::new(11);
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for _ in 0..200 {
        let (path, image) = programs[dice.below(5)];
        let deadline = path * (80 + dice.next() % 200) / 100;
        match shop.spawn(tenant, image, Some(deadline)) {
            Ok(strand) => accepted.push((strand, deadline)),
            Err(KernelError::Deadline { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        (0..dice.below(40)).for_each(|_| _ = shop.kernel.advance());
    }
    while shop.kernel.advance().busy {}
    let used: Vec<f64> = accepted
        .iter()
        .map(|&(strand, deadline)| shop.status(tenant, strand).epochs as f64 / deadline as f64)
        .collect();
    Row::Deadlines {
        name: mix.name.clone(),
        accepted: accepted.len() as u32,
        refused,
        missed: used.iter().filter(|&&u| u > 1.0).count() as u32,
        tightest: used.into_iter().fold(0.0, f64::max),
    }
}
