//! Circuits of physical qubits with noise, detectors and observables.

use qmk_abi::image::{Clifford1, Clifford2, Event, Image, Instr, Op, Pauli, Qubit};
use qmk_hal::{Channel, Noise};

/// One-qubit gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// A Pauli.
    Pauli(Pauli),
    /// Another Clifford.
    Clifford(Clifford1),
}

/// A step of a circuit. Records are numbered in the order in which they are measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A one-qubit gate.
    Gate(Gate, Qubit),
    /// A two-qubit gate on distinct qubits.
    Gate2(Clifford2, [Qubit; 2]),
    /// Prepares the +1 eigenstate of a Pauli.
    Reset(Pauli, Qubit),
    /// Measures a Pauli; its record is wrong with the given probability.
    Measure(Pauli, Qubit, f64),
    /// Measures the product of two equal Paulis on distinct qubits; its record is wrong with the given probability.
    MeasurePair(Pauli, [Qubit; 2], f64),
    /// X, Y or Z, with these probabilities.
    Pauli1(Qubit, [f64; 3]),
    /// A product of two Paulis: with I, X, Y, Z numbered 0 to 3, `(a, b)` has probability `p[4a + b - 1]`.
    Pauli2([Qubit; 2], [f64; 15]),
    /// Ends a layer of steps that take place at once.
    Tick,
    /// Begins a round of syndrome extraction; noise models that act once a round act here.
    Round,
    /// A parity of records that is the same without noise, and its place in space and time.
    Detector(Vec<u32>, [f64; 3]),
    /// Adds records to a logical observable.
    Observable(u32, Vec<u32>),
}

/// A circuit of physical qubits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Circuit {
    steps: Vec<Step>,
    qubits: u32,
    records: u32,
    detectors: u32,
    observables: u32,
    /// Coordinates of qubits, where they have some.
    pub coordinates: Vec<(Qubit, Vec<f64>)>,
}

/// Most observables of a circuit.
pub const MAX_OBSERVABLES: u32 = 64;

impl Circuit {
    /// An empty circuit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a step.
    ///
    /// # Panics
    /// If a detector or observable names a record that is not there yet, a two-qubit step names one qubit twice, or
    /// there are more than [`MAX_OBSERVABLES`]. Readers of text check this before they push.
    pub fn push(&mut self, step: Step) {
        let mut touch = |q: Qubit| self.qubits = self.qubits.max(q + 1);
        match &step {
            Step::Gate(_, q) | Step::Reset(_, q) | Step::Measure(_, q, _) | Step::Pauli1(q, _) => touch(*q),
            Step::Gate2(_, q) | Step::MeasurePair(_, q, _) | Step::Pauli2(q, _) => {
                assert_ne!(q[0], q[1], "two-qubit steps act on distinct qubits");
                q.iter().copied().for_each(touch);
            }
            Step::Detector(records, _) => {
                assert!(records.iter().all(|r| *r < self.records), "a detector names a record of the future");
                self.detectors += 1;
            }
            Step::Observable(index, records) => {
                assert!(records.iter().all(|r| *r < self.records), "an observable names a record of the future");
                assert!(*index < MAX_OBSERVABLES, "observables are numbered below {MAX_OBSERVABLES}");
                self.observables = self.observables.max(index + 1);
            }
            Step::Tick | Step::Round => {}
        }
        self.records += matches!(step, Step::Measure(..) | Step::MeasurePair(..)) as u32;
        self.steps.push(step);
    }

    /// Appends a noiseless measurement and returns the number of its record.
    pub fn measure(&mut self, basis: Pauli, qubit: Qubit) -> u32 {
        self.push(Step::Measure(basis, qubit, 0.0));
        self.records - 1
    }

    /// Appends a noiseless measurement of a product of two equal Paulis and returns the number of its record.
    pub fn measure_pair(&mut self, basis: Pauli, qubits: [Qubit; 2]) -> u32 {
        self.push(Step::MeasurePair(basis, qubits, 0.0));
        self.records - 1
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// One more than the largest qubit named.
    pub fn qubits(&self) -> u32 {
        self.qubits
    }

    /// Number of qubits that something is done to.
    pub fn used_qubits(&self) -> u32 {
        let mut used = vec![false; self.qubits as usize];
        for step in &self.steps {
            match step {
                Step::Gate(_, q) | Step::Reset(_, q) | Step::Measure(_, q, _) | Step::Pauli1(q, _) => {
                    used[*q as usize] = true
                }
                Step::Gate2(_, q) | Step::MeasurePair(_, q, _) | Step::Pauli2(q, _) => {
                    q.iter().for_each(|q| used[*q as usize] = true);
                }
                Step::Tick | Step::Round | Step::Detector(..) | Step::Observable(..) => {}
            }
        }
        used.into_iter().map(u32::from).sum()
    }

    /// Number of measurement records.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Number of detectors.
    pub fn detectors(&self) -> u32 {
        self.detectors
    }

    /// Number of observables.
    pub fn observables(&self) -> u32 {
        self.observables
    }

    /// Records of each detector.
    pub fn detector_records(&self) -> Vec<Vec<Event>> {
        let records =
            self.steps.iter().filter_map(|s| if let Step::Detector(r, _) = s { Some(r.clone()) } else { None });
        records.collect()
    }

    /// Coordinates of each detector.
    pub fn detector_coordinates(&self) -> Vec<[f64; 3]> {
        let at = self.steps.iter().filter_map(|s| if let Step::Detector(_, at) = s { Some(*at) } else { None });
        at.collect()
    }

    /// Records of each observable.
    pub fn observable_records(&self) -> Vec<Vec<Event>> {
        let mut all = vec![Vec::new(); self.observables as usize];
        for step in &self.steps {
            if let Step::Observable(index, records) = step {
                all[*index as usize].extend_from_slice(records);
            }
        }
        all
    }

    /// The circuit as a program of the simulated device, with its noise. Events are records.
    pub fn lower(&self) -> (Image, Vec<Noise>) {
        let mut image = Image { qubits: self.qubits, events: self.records, ..Image::default() };
        let mut noise = Vec::new();
        let mut event = 0;
        image.code.extend((0..self.qubits).map(|q| Instr { op: Op::Alloc(q), cond: None }));
        let mut put = |ops: &[Op]| {
            image.code.extend(ops.iter().map(|&op| Instr { op, cond: None }));
            image.code.len() as u32
        };
        let s = |q| Op::Clifford1(Clifford1::S, q);
        let sdg = |q| Op::Clifford1(Clifford1::Sdg, q);
        let h = |q| Op::Clifford1(Clifford1::H, q);
        for step in &self.steps {
            let mut err = |at: u32, channel| noise.push(Noise { after: at.saturating_sub(1), channel });
            match *step {
                Step::Gate(Gate::Pauli(p), q) => _ = put(&[Op::Pauli(p, q)]),
                Step::Gate(Gate::Clifford(g), q) => _ = put(&[Op::Clifford1(g, q)]),
                Step::Gate2(g, [a, b]) => _ = put(&[Op::Clifford2(g, a, b)]),
                Step::Reset(Pauli::Z, q) => _ = put(&[Op::Reset(q)]),
                Step::Reset(Pauli::X, q) => _ = put(&[Op::Reset(q), h(q)]),
                Step::Reset(Pauli::Y, q) => _ = put(&[Op::Reset(q), h(q), s(q)]),
                Step::Measure(p, q, wrong) => {
                    let at = put(&[Op::Measure(p, q, event)]);
                    if wrong > 0.0 {
                        err(at, Channel::Flip { event, p: wrong });
                    }
                    event += 1;
                }
                Step::MeasurePair(p, [a, b], wrong) => {
                    let cnot = Op::Clifford2(Clifford2::Cnot, a, b);
                    if p == Pauli::Y {
                        put(&[sdg(a), sdg(b)]);
                    }
                    let before = put(&[cnot]);
                    // CNOT takes X of the control to XX, and Z of the target to ZZ.
                    put(&[if p == Pauli::Z { Op::Measure(p, b, event) } else { Op::Measure(Pauli::X, a, event) }]);
                    if wrong > 0.0 {
                        err(before + 1, Channel::Flip { event, p: wrong });
                    }
                    if p == Pauli::Y {
                        put(&[cnot, s(a), s(b)]);
                    } else {
                        put(&[cnot]);
                    }
                    event += 1;
                }
                Step::Pauli1(qubit, p) => err(put(&[]), Channel::Pauli1 { qubit, p }),
                Step::Pauli2(qubits, p) => err(put(&[]), Channel::Pauli2 { qubits, p }),
                Step::Tick | Step::Round | Step::Detector(..) | Step::Observable(..) => {}
            }
        }
        (image, noise)
    }
}
