//! Our side of `cargo xtask bench qec`: memories of the rotated surface code, sampled and decoded on one thread.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

use qmk_abi::image::Pauli;
use qmk_qec::codes::Code;
use qmk_qec::codes::surface::RotatedSurface;
use qmk_qec::decoder::Decoder;
use qmk_qec::decoder::matching::Matching;
use qmk_qec::experiment::memory::{BLOCK, Memory, Samples};
use qmk_qec::noise::NoiseModel;
use qmk_qec::{Circuit, QecError, stim};
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: qec list | export DIR | serve; `cargo xtask bench qec` drives it";

fn main() -> Result<(), Failure> {
    // Cargo adds a flag of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["list"] => {
            for (d, p) in points() {
                // As many shots as take the peer about as long on every row.
                let shots = BLOCK * (80_000 / (d * d * d) as u64).clamp(20, 1000);
                println!("sample-d{d}-p{p} {shots} sample stim");
                println!("decode-d{d}-p{p} {} decode pymatching", shots / 4);
            }
        }
        ["export", dir] => {
            std::fs::create_dir_all(dir)?;
            for (d, p) in points() {
                for what in ["sample", "decode"] {
                    std::fs::write(
                        Path::new(dir).join(format!("{what}-d{d}-p{p}.stim")),
                        stim::export(&circuit(d, p)?),
                    )?;
                }
            }
        }
        ["serve"] => serve()?,
        _ => eprintln!("{USAGE}"),
    }
    Ok(())
}

fn points() -> impl Iterator<Item = (u32, f64)> {
    [3, 5, 7, 9].into_iter().flat_map(|d| [1e-3, 2e-3, 5e-3].map(|p| (d, p)))
}

/// Memory in the Z basis for as many rounds as the distance.
fn circuit(d: u32, p: f64) -> Result<Circuit, QecError> {
    Ok(NoiseModel::named("uniform", p)?.apply(&RotatedSurface::new(d)?.memory(Pauli::Z, d)))
}

/// Answers `run HOW SHOTS REPEATS NAME` by `ok NANOSECONDS ROUNDS`, the median time; `error MESSAGE` if something goes
/// wrong.
fn serve() -> Result<(), Failure> {
    let mut seed = 0;
    let mut loaded: Option<(String, u32, Memory, Matching)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["run", how, shots, repeats, name] = words[..] else {
            return Err(format!("not understood: {line}").into());
        };
        let (shots, repeats): (u64, usize) = (shots.parse()?, repeats.parse()?);
        if loaded.as_ref().is_none_or(|l| l.0 != name) {
            let point = points().find(|(d, p)| name.ends_with(&format!("-d{d}-p{p}")));
            let (d, p) = point.ok_or_else(|| format!("no workload {name}"))?;
            let memory = Memory::new(&circuit(d, p)?)?;
            let matching = Matching::new(memory.model())?;
            loaded = Some((name.into(), d, memory, matching));
        }
        let Some((_, d, memory, matching)) = &mut loaded else { continue };
        let mut times = Vec::new();
        for _ in 0..repeats {
            seed += 1;
            let mut time = 0;
            let (mut rows, mut samples) = (Vec::new(), Samples::default());
            for first in (0..shots).step_by(BLOCK as usize) {
                let count = BLOCK.min(shots - first) as usize;
                if how == "sample" {
                    let start = Instant::now();
                    memory.parities().sample(seed, first, count, &mut rows);
                    time += start.elapsed().as_nanos();
                    black_box(&rows);
                } else {
                    memory.sample(seed, first, count, &mut samples);
                    let start = Instant::now();
                    for fired in &samples.fired {
                        black_box(matching.decode(fired));
                    }
                    time += start.elapsed().as_nanos();
                }
            }
            times.push(time);
        }
        times.sort_unstable();
        let mut out = std::io::stdout().lock();
        writeln!(out, "ok {} {d}", times[repeats / 2])?;
        out.flush()?;
    }
    Ok(())
}
