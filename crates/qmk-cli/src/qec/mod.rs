//! `qmk qec`: memory experiments.

use crate::failure::Failure;
use crate::run::bar;
use crate::sweep::{self, SweepArgs};
use crate::{Output, To, input, pair, print, seed, shots, write};
use indicatif::{ProgressBar, ProgressDrawTarget};
use qmk_abi::image::Pauli;
use qmk_qec::experiment::{self, Experiment, MAX_ROUNDS};
use qmk_qec::memory::{Memory, Tally, per_round, wilson};
use qmk_qec::{Circuit, codes, noise, stim};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Subcommand)]
#[command(after_help = "Examples:\n  qmk qec memory --code surface_code --distance 5 --p 2e-3\n  \
                        qmk qec circuit --code bacon_shor --distance 3 --p 1e-3 -o bacon_shor.stim\n  \
                        qmk qec sweep --code surface_code --distances 3,5,7 --p 4e-3:1e-2:7 -o sweep")]
pub(crate) enum Qec {
    /// Keep logical qubits for some rounds, decode, and count how often they are lost
    #[command(after_help = "Examples:\n  qmk qec memory --code surface_code --distance 5 --p 2e-3\n  \
                            qmk qec memory --code honeycomb --distance 3 --rounds 9 --p 1e-3 --noise-model em3_independent --json\n  \
                            qmk qec memory --code surface_code --distance 3 --p 1e-3 --noise-model si1000 --set record=0.01\n  \
                            qmk qec memory --circuit experiment.stim --rounds 25 --shots 1000000\n\n\
                            The same seed gives the same figures on any number of threads; us_per_round is measured time.")]
    Memory {
        #[command(flatten)]
        setup: Setup,
        /// Number of shots
        #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = shots, allow_negative_numbers = true)]
        shots: u64,
        /// Seed of all randomness
        #[arg(long, default_value_t = 0, value_name = "S", value_parser = seed, allow_negative_numbers = true)]
        seed: u64,
        #[command(flatten)]
        work: Work,
        #[command(flatten)]
        output: Output,
    },
    /// Print the noisy circuit of a memory experiment as Stim text
    #[command(after_help = "Example:\n  qmk qec circuit --code surface_code --distance 3 --p 1e-3 --basis x -o x.stim")]
    Circuit {
        #[command(flatten)]
        setup: Setup,
        #[command(flatten)]
        to: To,
    },
    /// Print the detector error model of a memory experiment as Stim text
    #[command(after_help = "Examples:\n  qmk qec model --code surface_code --distance 3 --p 1e-3 -o d3.dem\n  \
                            qmk qec model --circuit experiment.stim")]
    Model {
        #[command(flatten)]
        setup: Setup,
        #[command(flatten)]
        to: To,
    },
    /// Measure a code at many distances and physical error rates, plot it, and estimate its threshold
    #[command(after_help = sweep::HELP)]
    Sweep(SweepArgs),
}

#[derive(clap::Args)]
pub(crate) struct Setup {
    /// The code
    #[arg(long, value_name = "CODE", required_unless_present = "circuit", value_parser = code)]
    code: Option<String>,
    /// Code distance
    #[arg(long, value_name = "D", required_unless_present = "circuit")]
    distance: Option<u32>,
    /// Rounds of syndrome extraction, 1 to 10000 [default: the distance; of a circuit, 1]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=MAX_ROUNDS as i64),
          allow_negative_numbers = true)]
    rounds: Option<u32>,
    /// Physical error rate
    #[arg(long, value_name = "P", required_unless_present = "circuit", allow_negative_numbers = true)]
    p: Option<f64>,
    /// Eigenstates to keep: those of Z show logical X errors, those of X logical Z errors
    #[arg(long, value_enum, default_value = "z")]
    basis: Basis,
    #[command(flatten)]
    noise: NoiseArgs,
    /// A circuit in Stim's text instead, noise included
    #[arg(long, value_name = "FILE.stim", conflicts_with_all = ["code", "distance", "p", "basis", "noise_model", "set"])]
    circuit: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct NoiseArgs {
    /// Noise model: uniform, sd6, si1000, em3_independent, biased, phenomenological, code_capacity or relaxation
    #[arg(long, value_name = "MODEL", default_value = "uniform", value_parser = noise_model)]
    pub(crate) noise_model: String,
    /// Value of one parameter of the noise model, such as gate2=0.002; may be given once for each
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) set: Vec<(String, f64)>,
}

#[derive(clap::Args)]
pub(crate) struct Work {
    /// Threads [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// The decoder: matching needs errors that are edges, or made of edges
    #[arg(long, value_name = "DECODER", default_value = "best", value_parser = experiment::DECODERS)]
    pub(crate) decoder: String,
}

impl Work {
    pub(crate) fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(all, |n| n as usize)
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Basis {
    Z,
    X,
}

impl Basis {
    fn pauli(self) -> Pauli {
        match self {
            Basis::Z => Pauli::Z,
            Basis::X => Pauli::X,
        }
    }
}

/// One of a list of names.
fn known(what: &str, names: &[&str], text: &str) -> Result<String, String> {
    match names.contains(&text) {
        true => Ok(text.into()),
        false => Err(format!("unknown {what}; known: {}", names.join(", "))),
    }
}

pub(crate) fn code(text: &str) -> Result<String, String> {
    known("code", &codes::NAMES, if text == "surface" { "surface_code" } else { text })
}

fn noise_model(text: &str) -> Result<String, String> {
    known("noise model", &noise::MODELS, text)
}

fn parameter(text: &str) -> Result<(String, f64), String> {
    let (name, value) = pair(text)?;
    let value = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    Ok((known("noise parameter", &noise::NoiseModel::PARAMETERS, &name)?, value))
}

pub(crate) fn usage(message: String) -> Failure {
    Failure::new(2, "USAGE", message)
}

/// A bar that shows itself when work takes longer than a moment, on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    pub(crate) fn new(length: u64, template: &str) -> Self {
        let bar = bar(length, template, ProgressDrawTarget::stderr());
        Progress { bar, began: Instant::now() }
    }

    pub(crate) fn at(&self, position: u64, message: impl FnOnce() -> String) {
        if self.began.elapsed().as_millis() > 500 {
            self.bar.set_message(message());
            self.bar.set_position(position);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What is to be run.
struct Ready {
    circuit: Circuit,
    rounds: u32,
    qubits: u32,
    /// Whether to try matching first.
    matchable: bool,
    title: String,
}

fn ready(setup: &Setup) -> Result<Ready, Failure> {
    if let Some(path) = &setup.circuit {
        let circuit = stim::import(&input::text(path)?)
            .map_err(|e| Failure::new(1, "E-PARSE", format!("{}: {e}", path.display())))?;
        if circuit.observables() == 0 {
            return Err(Failure::new(1, "E-ARG", format!("{}: the circuit has no observables", path.display())));
        }
        let (rounds, qubits) = (setup.rounds.unwrap_or(1), circuit.used_qubits());
        return Ok(Ready { circuit, rounds, qubits, matchable: true, title: path.display().to_string() });
    }
    let missing = || usage("--code, --distance and --p, or --circuit".into());
    let distance = setup.distance.ok_or_else(missing)?;
    let experiment = Experiment {
        code: setup.code.clone().ok_or_else(missing)?,
        distance,
        // A distance that is no number of rounds is out of range, too, and that is said first.
        rounds: setup.rounds.unwrap_or(distance.clamp(1, MAX_ROUNDS)),
        basis: setup.basis.pauli(),
        p: setup.p.ok_or_else(missing)?,
        noise: setup.noise.noise_model.clone(),
        set: setup.noise.set.clone(),
    };
    let (code, circuit) = experiment.build().map_err(usage)?;
    let title = format!(
        "{} d={distance}, {} rounds in basis {:?}, {} noise at p={}{}",
        experiment.code,
        experiment.rounds,
        experiment.basis,
        experiment.noise,
        experiment.p,
        experiment.set.iter().map(|(name, value)| format!(", {name}={value}")).collect::<String>()
    );
    let (rounds, qubits, matchable) = (experiment.rounds, code.physical_qubits(), code.is_matchable());
    Ok(Ready { circuit, rounds, qubits, matchable, title })
}

/// What cannot be sampled or decoded, such as an imported circuit whose detectors are random without noise.
fn unfit(message: String) -> Failure {
    Failure::new(1, "E-ARG", message)
}

pub(crate) fn run(command: Qec) -> Result<(), Failure> {
    match command {
        Qec::Memory { setup, shots, seed, work, output } => memory(&setup, shots, seed, &work, output.json),
        Qec::Circuit { setup, to } => write(to.out.as_deref(), &stim::export(&ready(&setup)?.circuit)),
        Qec::Model { setup, to } => {
            let memory = Memory::new(&ready(&setup)?.circuit).map_err(unfit)?;
            write(to.out.as_deref(), &stim::export_model(memory.model()))
        }
        Qec::Sweep(args) => sweep::run(&args),
    }
}

fn memory(setup: &Setup, shots: u64, seed: u64, work: &Work, as_json: bool) -> Result<(), Failure> {
    let Ready { circuit, rounds, qubits, matchable, title } = ready(setup)?;
    let memory = Memory::new(&circuit).map_err(unfit)?;
    drop(circuit);
    let decoder = experiment::decoder(&work.decoder, memory.model(), matchable).map_err(unfit)?;
    let bar = Progress::new(shots, "{bar:40} {percent}% of {len} shots, {msg}, {eta} left");
    let go_on = |t: &Tally| {
        bar.at(t.shots, || format!("{} failures", t.failures));
        true
    };
    let tally = memory.run(decoder.as_ref(), (seed, 0, shots), work.threads(), &go_on);
    drop(bar);
    let observables = memory.model().observables;
    let per_shot = tally.per_shot();
    let round = |p: f64| experiment::any_per_round(p, rounds as f64, observables);
    let ci95 = wilson(tally.failures, tally.shots, 1.96);
    let us = tally.us_per_round(rounds);
    if as_json {
        let document = json!({
            "what": title,
            "shots": tally.shots,
            "failures": tally.failures,
            "logical_error_per_shot": per_shot,
            "logical_error_per_round": round(per_shot),
            "ci95": ci95,
            "ci95_per_round": ci95.map(round),
            "physical_qubits": qubits,
            "logical_qubits": observables,
            "rounds": rounds,
            "seed": seed,
            "decoder": decoder.name(),
            "us_per_round": us,
        });
        return print(&(document.to_string() + "\n"));
    }
    let interval = |ci: [f64; 2]| format!("(95 %: {:.3e} to {:.3e})", ci[0], ci[1]);
    let mut text = format!("{title}: {} shots, seed {seed}\n", tally.shots);
    text += &format!("  failures          {}\n", tally.failures);
    text += &format!("  error per shot    {per_shot:.3e}  {}\n", interval(ci95));
    text += &format!("  error per round   {:.3e}  {}\n", round(per_shot), interval(ci95.map(round)));
    if observables > 1 {
        let each = per_round(experiment::per_observable(per_shot, observables), rounds as f64);
        text += &format!("  per logical qubit {each:.3e}  a round, of {observables} that fail alike\n");
    }
    text += &format!("  physical qubits   {qubits}\n  decoder           {}, {us:.3} us a round\n", decoder.name());
    print(&text)
}
