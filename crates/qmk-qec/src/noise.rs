//! Noise models: which errors follow which steps of a circuit.

use crate::circuit::{Circuit, Gate, Step};
use crate::dem::exactly_one;
use crate::error::{NoiseError, QecError};
use qmk_abi::image::{Pauli, Qubit};

/// Relaxation and dephasing of waiting qubits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relaxation {
    /// T1, the time in which excitation decays, in microseconds.
    pub t1: f64,
    /// T2, the time in which coherence decays, in microseconds; at most 2 T1.
    pub t2: f64,
    /// Duration of a layer of one-qubit gates, in nanoseconds.
    pub gate1: f64,
    /// Duration of a layer with two-qubit gates, in nanoseconds.
    pub gate2: f64,
    /// Duration of a layer with measurements or resets, in nanoseconds.
    pub readout: f64,
}

impl Relaxation {
    /// Probabilities of X, Y and Z in `t` nanoseconds: the Pauli twirl of amplitude and phase damping (Ghosh, Fowler &
    /// Geller, arXiv:1210.5799, eq. 10).
    pub fn twirl(&self, t: f64) -> [f64; 3] {
        let decay = |t2: f64| -f64::exp_m1(-t / (1000.0 * t2));
        let xy = decay(self.t1) / 4.0;
        [xy, xy, (decay(self.t2) / 2.0 - xy).max(0.0)]
    }
}

/// Probabilities of physical errors, each per qubit and step of the kind that its field names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseModel {
    /// Pauli errors after a one-qubit gate, 0 to 3/4.
    pub gate1: f64,
    /// Pauli errors after a two-qubit gate, 0 to 15/16.
    pub gate2: f64,
    /// Preparation of the wrong eigenstate, 0 to 1/2.
    pub reset: f64,
    /// A Pauli that turns the outcome over, before a measurement of one qubit, 0 to 1/2.
    pub before_measure: f64,
    /// A wrong record of a measurement, 0 to 1/2.
    pub record: f64,
    /// Pauli errors on the two qubits of a pair measurement, 0 to 15/16.
    pub pair: f64,
    /// A wrong record of a pair measurement, 0 to 1/2.
    pub pair_record: f64,
    /// Pauli errors on a qubit that waits through a layer, 0 to 3/4.
    pub idle: f64,
    /// Additional Pauli errors on a qubit that waits while others are measured or reset, 0 to 3/4.
    pub idle_readout: f64,
    /// Pauli errors on each data qubit at the beginning of a round, 0 to 3/4.
    pub round: f64,
    /// Z errors against X and Y errors together: 1/2 is depolarizing, 1 to 1e6 dephasing. In products of two Paulis, X
    /// and Y weigh 1/(2 bias) each, I and Z weigh 1.
    pub bias: f64,
    /// Relaxation of qubits that wait.
    pub relaxation: Option<Relaxation>,
}

/// Names of the models of one parameter.
pub const MODELS: [&str; 8] =
    ["uniform", "sd6", "si1000", "em3_independent", "biased", "phenomenological", "code_capacity", "relaxation"];

impl NoiseModel {
    /// No errors.
    pub const NONE: NoiseModel = NoiseModel {
        gate1: 0.0,
        gate2: 0.0,
        reset: 0.0,
        before_measure: 0.0,
        record: 0.0,
        pair: 0.0,
        pair_record: 0.0,
        idle: 0.0,
        idle_readout: 0.0,
        round: 0.0,
        bias: 0.5,
        relaxation: None,
    };

    /// A model of one parameter:
    ///
    /// * `uniform`: as the four parameters of Stim's generated circuits, all p: gates, resets, measurements, and data
    ///   qubits once a round. Pair measurements, which Stim's circuits do not have, err like two-qubit gates and in
    ///   their records, both p, as in `sd6`, `biased` and `relaxation`.
    /// * `sd6`: standard depolarizing, with waiting in every layer (Gidney et al., arXiv:2108.10457, table 1).
    /// * `si1000`: inspired by superconducting qubits with a cycle of 1,000 ns (Gidney, Newman & McEwen,
    ///   arXiv:2202.11845, table 3): two-qubit gates p, others and waiting p/10, resets 2p, records 5p, waiting for
    ///   readout 2p more.
    /// * `em3_independent`: native pair measurements (arXiv:2108.10457, table 1): errors of the pair and of its record
    ///   have the probabilities that they have there, but come independently.
    /// * `biased`: `uniform` with Z errors 100 times as likely as X and Y errors together.
    /// * `phenomenological`: data qubits once a round and records, both p.
    /// * `code_capacity`: data qubits once a round; meant for one round.
    /// * `relaxation`: gates as in `sd6`, waiting qubits relax with T1 = T2 = 100 us · (1e-3 / p); layers take 25, 50
    ///   and 500 ns.
    ///
    /// # Errors
    /// [`QecError::UnknownName`] for an unknown model, [`QecError::Noise`] if p is out of its range.
    pub fn named(name: &str, p: f64) -> Result<NoiseModel, QecError> {
        let none = NoiseModel::NONE;
        let pairs = NoiseModel { pair: p, pair_record: p, ..none };
        let uniform = NoiseModel { gate1: p, gate2: p, reset: p, before_measure: p, round: p, ..pairs };
        let sd6 = NoiseModel { gate1: p, gate2: p, reset: p, before_measure: p, idle: p, ..pairs };
        let (model, most) = match name {
            "uniform" => (uniform, 0.5),
            "sd6" => (sd6, 0.5),
            "si1000" => {
                let model = NoiseModel {
                    gate1: p / 10.0,
                    gate2: p,
                    reset: 2.0 * p,
                    record: 5.0 * p,
                    pair: p,
                    pair_record: 5.0 * p,
                    idle: p / 10.0,
                    idle_readout: 2.0 * p,
                    ..none
                };
                (model, 0.1)
            }
            "em3_independent" => {
                // One of the 32 combinations of two Paulis and a record, with probability p.
                let model = NoiseModel {
                    gate1: p,
                    gate2: p,
                    reset: p / 2.0,
                    record: p / 2.0,
                    pair: p * 15.0 / 16.0,
                    pair_record: p / 2.0,
                    idle: p,
                    ..none
                };
                (model, 0.75)
            }
            "biased" => (NoiseModel { bias: 100.0, ..uniform }, 0.5),
            "phenomenological" => (NoiseModel { record: p, pair_record: p, round: p, ..none }, 0.5),
            "code_capacity" => (NoiseModel { round: p, ..none }, 0.75),
            "relaxation" => {
                let t = if p > 0.0 { 0.1 / p } else { f64::INFINITY };
                let relaxation = Relaxation { t1: t, t2: t, gate1: 25.0, gate2: 50.0, readout: 500.0 };
                (NoiseModel { idle: 0.0, relaxation: Some(relaxation), ..sd6 }, 0.5)
            }
            _ => return Err(QecError::UnknownName { kind: "noise model", name: name.into(), known: &MODELS }),
        };
        if !(0.0..=most).contains(&p) {
            return Err(NoiseError::ErrorRate { model: name.into(), p, most }.into());
        }
        model.check()?;
        Ok(model)
    }

    /// Names of the parameters that [`set`](Self::set) takes.
    pub const PARAMETERS: [&str; 16] = [
        "gate1",
        "gate2",
        "reset",
        "before_measure",
        "record",
        "pair",
        "pair_record",
        "idle",
        "idle_readout",
        "round",
        "bias",
        "t1",
        "t2",
        "gate1_ns",
        "gate2_ns",
        "readout_ns",
    ];

    /// Sets a parameter by name, without checking its range. A parameter of relaxation switches relaxation on.
    ///
    /// # Errors
    /// [`QecError::UnknownName`] for an unknown parameter.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), QecError> {
        let mut relax =
            self.relaxation.unwrap_or(Relaxation { t1: 100.0, t2: 100.0, gate1: 25.0, gate2: 50.0, readout: 500.0 });
        match name {
            "gate1" => self.gate1 = value,
            "gate2" => self.gate2 = value,
            "reset" => self.reset = value,
            "before_measure" => self.before_measure = value,
            "record" => self.record = value,
            "pair" => self.pair = value,
            "pair_record" => self.pair_record = value,
            "idle" => self.idle = value,
            "idle_readout" => self.idle_readout = value,
            "round" => self.round = value,
            "bias" => self.bias = value,
            "t1" => relax.t1 = value,
            "t2" => relax.t2 = value,
            "gate1_ns" => relax.gate1 = value,
            "gate2_ns" => relax.gate2 = value,
            "readout_ns" => relax.readout = value,
            _ => {
                return Err(QecError::UnknownName {
                    kind: "noise parameter",
                    name: name.into(),
                    known: &Self::PARAMETERS,
                });
            }
        }
        if matches!(name, "t1" | "t2" | "gate1_ns" | "gate2_ns" | "readout_ns") {
            self.relaxation = Some(relax);
        }
        Ok(())
    }

    /// Checks all parameters.
    ///
    /// # Errors
    /// [`QecError::Noise`]: the first parameter that is out of range, with the range.
    pub fn check(&self) -> Result<(), QecError> {
        let most = |name: &'static str, value: f64, most: f64| match (0.0..=most).contains(&value) {
            true => Ok(()),
            false => Err(NoiseError::Parameter { name, value, low: 0.0, high: most }),
        };
        most("gate1", self.gate1, 0.75)?;
        most("gate2", self.gate2, 0.9375)?;
        most("reset", self.reset, 0.5)?;
        most("before_measure", self.before_measure, 0.5)?;
        most("record", self.record, 0.5)?;
        most("pair", self.pair, 0.9375)?;
        most("pair_record", self.pair_record, 0.5)?;
        most("idle", self.idle, 0.75)?;
        most("idle_readout", self.idle_readout, 0.75)?;
        most("round", self.round, 0.75)?;
        if self.bias != 0.5 && !(0.5..=1e6).contains(&self.bias) {
            return Err(NoiseError::Parameter { name: "bias", value: self.bias, low: 0.5, high: 1e6 }.into());
        }
        if let Some(r) = &self.relaxation {
            if r.t1.is_nan() || r.t1 <= 0.0 {
                return Err(NoiseError::RelaxationTime { t1_us: r.t1 }.into());
            }
            if !(r.t2 > 0.0 && r.t2 <= 2.0 * r.t1) {
                return Err(NoiseError::DephasingTime { t1_us: r.t1, t2_us: r.t2 }.into());
            }
            for (name, t) in [("gate1_ns", r.gate1), ("gate2_ns", r.gate2), ("readout_ns", r.readout)] {
                most(name, t, 1e9)?;
            }
        }
        Ok(())
    }

    fn one_qubit_errors(&self, q: Qubit, p: f64) -> Option<Step> {
        let z = self.bias / (self.bias + 1.0);
        let xy = (1.0 - z) / 2.0;
        (p > 0.0).then(|| Step::Pauli1(q, if self.bias == 0.5 { [p / 3.0; 3] } else { [p * xy, p * xy, p * z] }))
    }

    fn two_qubit_errors(&self, q: [Qubit; 2], p: f64) -> Option<Step> {
        if self.bias == 0.5 {
            return (p > 0.0).then(|| Step::Pauli2(q, [p / 15.0; 15]));
        }
        let weight = [1.0, 0.5 / self.bias, 0.5 / self.bias, 1.0];
        let all: [f64; 15] = std::array::from_fn(|i| weight[(i + 1) / 4] * weight[(i + 1) % 4]);
        let sum: f64 = all.iter().sum();
        (p > 0.0).then(|| Step::Pauli2(q, all.map(|w| p * w / sum)))
    }

    /// Errors of a qubit that waits through a layer in which others meet in two-qubit operations or are read out.
    fn wait(&self, noisy: &mut Circuit, q: Qubit, couples: bool, reads: bool) {
        self.one_qubit_errors(q, self.idle).into_iter().for_each(|s| noisy.push(s));
        if reads {
            self.one_qubit_errors(q, self.idle_readout).into_iter().for_each(|s| noisy.push(s));
        }
        if let Some(r) = &self.relaxation {
            let t = if reads { r.readout } else { 0.0 };
            let p = r.twirl(t.max(if couples { r.gate2 } else { r.gate1 }));
            if p != [0.0; 3] {
                noisy.push(Step::Pauli1(q, p));
            }
        }
    }

    /// A copy of a circuit with these errors added to the errors that it has.
    pub fn apply(&self, circuit: &Circuit) -> Circuit {
        let mut noisy = Circuit::new();
        noisy.coordinates.clone_from(&circuit.coordinates);
        let mut live = vec![false; circuit.qubits() as usize];
        for layer in circuit.steps().split_inclusive(|s| matches!(s, Step::Tick)) {
            let mut busy = vec![false; live.len()];
            let (mut works, mut couples, mut reads) = (false, false, false);
            // Only a qubit that is live when the layer begins can wait in it.
            let waiting = live.clone();
            for step in layer {
                let mut touch = |q: Qubit| {
                    works = true;
                    busy[q as usize] = true;
                };
                match *step {
                    Step::Round => {
                        noisy.push(Step::Round);
                        let data = (0..circuit.qubits()).filter(|&q| live[q as usize]);
                        data.filter_map(|q| self.one_qubit_errors(q, self.round)).for_each(|s| noisy.push(s));
                    }
                    Step::Gate(gate, q) => {
                        touch(q);
                        noisy.push(step.clone());
                        // Paulis are tracked in software.
                        if !matches!(gate, Gate::Pauli(_)) {
                            self.one_qubit_errors(q, self.gate1).into_iter().for_each(|s| noisy.push(s));
                        }
                    }
                    Step::Gate2(_, q) => {
                        q.into_iter().for_each(&mut touch);
                        couples = true;
                        noisy.push(step.clone());
                        self.two_qubit_errors(q, self.gate2).into_iter().for_each(|s| noisy.push(s));
                    }
                    Step::Reset(basis, q) => {
                        touch(q);
                        (reads, live[q as usize]) = (true, true);
                        noisy.push(step.clone());
                        wrong_eigenstate(&mut noisy, basis, q, self.reset);
                    }
                    Step::Measure(basis, q, wrong) => {
                        touch(q);
                        (reads, live[q as usize]) = (true, false);
                        wrong_eigenstate(&mut noisy, basis, q, self.before_measure);
                        noisy.push(Step::Measure(basis, q, exactly_one(wrong, self.record)));
                    }
                    Step::MeasurePair(basis, q, wrong) => {
                        q.into_iter().for_each(&mut touch);
                        couples = true;
                        noisy.push(Step::MeasurePair(basis, q, exactly_one(wrong, self.pair_record)));
                        self.two_qubit_errors(q, self.pair).into_iter().for_each(|s| noisy.push(s));
                    }
                    Step::Tick => {
                        let idle = (0..circuit.qubits()).filter(|&q| waiting[q as usize] && !busy[q as usize]);
                        idle.filter(|_| works).for_each(|q| self.wait(&mut noisy, q, couples, reads));
                        noisy.push(Step::Tick);
                    }
                    Step::Pauli1(..) | Step::Pauli2(..) | Step::Detector(..) | Step::Observable(..) => {
                        noisy.push(step.clone());
                    }
                }
            }
        }
        noisy
    }
}

/// A Pauli that turns an eigenstate of `basis` over.
fn wrong_eigenstate(circuit: &mut Circuit, basis: Pauli, q: Qubit, p: f64) {
    if p > 0.0 {
        circuit.push(Step::Pauli1(q, if basis == Pauli::Z { [p, 0.0, 0.0] } else { [0.0, 0.0, p] }));
    }
}
