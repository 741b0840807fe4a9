//! `qmk qec memory`: one memory experiment. `qmk qec circuit` and `model` print the circuit prepared here.

use super::args::{NoiseArgs, Work, code, usage};
use crate::failure::Failure;
use crate::input;
use crate::output::print;
use crate::progress::Progress;
use qmk_abi::image::Pauli;
use qmk_qec::experiment::memory::{Memory, Tally, per_round, wilson};
use qmk_qec::experiment::{self, Experiment, MAX_ROUNDS};
use qmk_qec::{Circuit, QecError, stim};
use serde_json::json;
use std::path::PathBuf;

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

/// An experiment that is ready to run.
pub(super) struct Prepared {
    pub(super) circuit: Circuit,
    rounds: u32,
    /// Physical qubits.
    qubits: u32,
    /// Whether each error flips at most two detectors, so that matching can decode it.
    matchable: bool,
    title: String,
}

pub(super) fn prepare(setup: &Setup) -> Result<Prepared, Failure> {
    if let Some(path) = &setup.circuit {
        let circuit = stim::import(&input::text(path)?)
            .map_err(|e| Failure::new(1, "E-PARSE", format!("{}: {e}", path.display())))?;
        if circuit.observables() == 0 {
            return Err(Failure::new(1, "E-ARG", format!("{}: the circuit has no observables", path.display())));
        }
        let (rounds, qubits) = (setup.rounds.unwrap_or(1), circuit.used_qubits());
        return Ok(Prepared { circuit, rounds, qubits, matchable: true, title: path.display().to_string() });
    }
    let missing = || usage("--code, --distance and --p, or --circuit");
    let distance = setup.distance.ok_or_else(missing)?;
    let experiment = Experiment {
        code: setup.code.clone().ok_or_else(missing)?,
        distance,
        // A distance beyond the range of rounds is out of range itself, which `build` reports.
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
    Ok(Prepared { circuit, rounds, qubits, matchable, title })
}

/// The failure of a circuit that cannot be sampled or decoded, such as one whose detectors are random without noise.
pub(super) fn unfit(error: QecError) -> Failure {
    Failure::new(1, "E-ARG", error.to_string())
}

pub(super) fn memory(setup: &Setup, shots: u64, seed: u64, work: &Work, as_json: bool) -> Result<(), Failure> {
    let Prepared { circuit, rounds, qubits, matchable, title } = prepare(setup)?;
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
