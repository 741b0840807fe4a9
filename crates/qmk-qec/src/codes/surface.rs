//! The rotated surface code.

use super::code::{Checks, Code, PauliProduct};
use crate::circuit::{Circuit, Gate, Step};
use crate::error::QecError;
use qmk_abi::image::{Clifford1, Clifford2, Pauli, Qubit};

/// The rotated surface code [[d², 1, d]] with an ancilla for each of its d² - 1 stabilizers and four layers of CNOTs in
/// an order that keeps hook errors across the logical operators (Tomita & Svore, arXiv:1404.3747). The layout and the
/// order are those of Stim's generated circuits, so both can be compared error by error.
#[derive(Clone, Debug)]
pub struct RotatedSurface {
    distance: u32,
    /// The stabilizers: kind, ancilla, and data qubit in each layer.
    plaquettes: Vec<Plaquette>,
}

#[derive(Clone, Debug)]
struct Plaquette {
    kind: Pauli,
    ancilla: Qubit,
    at: [f64; 2],
    order: [Option<Qubit>; 4],
}

impl RotatedSurface {
    /// Distances that are simulated.
    pub const DISTANCES: std::ops::RangeInclusive<u32> = 2..=51;

    /// A patch of d x d data qubits.
    ///
    /// # Errors
    /// [`QecError::Distance`] if the distance is not one of [`DISTANCES`](Self::DISTANCES).
    pub fn new(distance: u32) -> Result<Self, QecError> {
        super::code::check_distance("surface_code", distance, Self::DISTANCES)?;
        let d = distance;
        let mut plaquettes: Vec<Plaquette> = Vec::new();
        for y in 0..=d {
            for x in 0..=d {
                let is_x = x % 2 != y % 2;
                if (x == 0 || x == d) && is_x || (y == 0 || y == d) && !is_x {
                    continue;
                }
                // Data qubit (i, j) lies at (2i + 1, 2j + 1), ancillas at even places.
                let data = |right: u32, down: u32| {
                    let (i, j) = ((x + right).checked_sub(1)?, (y + down).checked_sub(1)?);
                    (i < d && j < d).then_some(j * d + i)
                };
                let order = if is_x {
                    [data(1, 1), data(0, 1), data(1, 0), data(0, 0)]
                } else {
                    [data(1, 1), data(1, 0), data(0, 1), data(0, 0)]
                };
                plaquettes.push(Plaquette {
                    kind: if is_x { Pauli::X } else { Pauli::Z },
                    ancilla: d * d + plaquettes.len() as u32,
                    at: [2.0 * x as f64, 2.0 * y as f64],
                    order,
                });
            }
        }
        Ok(RotatedSurface { distance, plaquettes })
    }

    /// The data qubits of logical X (a column) or Z (a row).
    fn logical(&self, kind: Pauli) -> Vec<Qubit> {
        let d = self.distance;
        (0..d).map(|i| if kind == Pauli::X { i * d } else { i }).collect()
    }

    /// One round of syndrome extraction. Returns the record of each plaquette.
    fn round(&self, circuit: &mut Circuit) -> Vec<u32> {
        let is_x = |p: &&Plaquette| p.kind == Pauli::X;
        let hadamards = |circuit: &mut Circuit| {
            let h = Gate::Clifford(Clifford1::H);
            self.plaquettes.iter().filter(is_x).for_each(|p| circuit.push(Step::Gate(h, p.ancilla)));
            circuit.push(Step::Tick);
        };
        circuit.push(Step::Round);
        self.plaquettes.iter().for_each(|p| circuit.push(Step::Reset(Pauli::Z, p.ancilla)));
        circuit.push(Step::Tick);
        hadamards(circuit);
        for layer in 0..4 {
            for p in &self.plaquettes {
                if let Some(data) = p.order[layer] {
                    let pair = if p.kind == Pauli::X { [p.ancilla, data] } else { [data, p.ancilla] };
                    circuit.push(Step::Gate2(Clifford2::Cnot, pair));
                }
            }
            circuit.push(Step::Tick);
        }
        hadamards(circuit);
        let records = self.plaquettes.iter().map(|p| circuit.measure(Pauli::Z, p.ancilla)).collect();
        circuit.push(Step::Tick);
        records
    }
}

impl Code for RotatedSurface {
    fn name(&self) -> &'static str {
        "surface_code"
    }

    fn distance(&self) -> u32 {
        self.distance
    }

    fn physical_qubits(&self) -> u32 {
        2 * self.distance.pow(2) - 1
    }

    fn checks(&self) -> Checks {
        let stabilizer = |p: &Plaquette| {
            let mut product: PauliProduct = p.order.iter().flatten().map(|&q| (p.kind, q)).collect();
            product.sort_by_key(|f| f.1);
            product
        };
        let logical = |kind| self.logical(kind).into_iter().map(|q| (kind, q)).collect();
        Checks {
            data: (0..self.distance.pow(2)).collect(),
            stabilizers: self.plaquettes.iter().map(stabilizer).collect(),
            gauges: Vec::new(),
            logicals: vec![[logical(Pauli::X), logical(Pauli::Z)]],
        }
    }

    fn is_matchable(&self) -> bool {
        true
    }

    fn memory(&self, basis: Pauli, rounds: u32) -> Circuit {
        let d = self.distance;
        let mut circuit = Circuit::new();
        for q in 0..d * d {
            circuit.coordinates.push((q, vec![(2 * (q % d) + 1) as f64, (2 * (q / d) + 1) as f64]));
        }
        circuit.coordinates.extend(self.plaquettes.iter().map(|p| (p.ancilla, p.at.to_vec())));
        (0..d * d).for_each(|q| circuit.push(Step::Reset(basis, q)));
        circuit.push(Step::Tick);
        let mut before: Option<Vec<u32>> = None;
        for round in 0..rounds {
            let records = self.round(&mut circuit);
            for (i, p) in self.plaquettes.iter().enumerate() {
                let at = [p.at[0], p.at[1], round as f64];
                match &before {
                    Some(before) => circuit.push(Step::Detector(vec![records[i], before[i]], at)),
                    None if p.kind == basis => circuit.push(Step::Detector(vec![records[i]], at)),
                    None => {}
                }
            }
            before = Some(records);
        }
        let last = before.unwrap_or_default();
        let data: Vec<u32> = (0..d * d).map(|q| circuit.measure(basis, q)).collect();
        for (i, p) in self.plaquettes.iter().enumerate().filter(|(_, p)| p.kind == basis) {
            let mut records: Vec<u32> = p.order.iter().flatten().map(|&q| data[q as usize]).collect();
            records.extend(last.get(i));
            circuit.push(Step::Detector(records, [p.at[0], p.at[1], rounds as f64]));
        }
        let records = self.logical(basis).into_iter().map(|q| data[q as usize]).collect();
        circuit.push(Step::Observable(0, records));
        circuit
    }
}
