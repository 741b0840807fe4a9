//! Subsystem codes with gauges of X and of Z, each with an ancilla of its own.

use super::code::{Checks, Code, PauliProduct};
use crate::circuit::{Circuit, Step};
use qmk_abi::image::{Clifford2, Pauli, Qubit};
use qmk_sim::sets::drop_pairs;

/// The gauges of one sector, X or Z, and the stabilizers and relations that are products of them. Gauges are numbered
/// in order.
#[derive(Debug)]
pub(super) struct GaugeSector {
    /// Data qubits of each gauge, all of one weight, in the order in which the ancilla meets them: the first of all
    /// gauges are distinct, and the second, and so on.
    pub gauges: Vec<Vec<Qubit>>,
    /// Ancilla of the first gauge. Ancillas of the others follow in order.
    pub ancillas: Qubit,
    /// Gauges of which each stabilizer is the product.
    pub stabilizers: Vec<Vec<usize>>,
    /// Sets of gauges whose product is the identity.
    pub relations: Vec<Vec<usize>>,
}

/// A code whose data qubits come first, numbered from 0, then the ancillas.
#[derive(Debug)]
pub struct Subsystem {
    pub(super) name: &'static str,
    pub(super) distance: u32,
    pub(super) matchable: bool,
    /// Place of each qubit.
    pub(super) places: Vec<[f64; 2]>,
    /// Number of data qubits.
    pub(super) data: u32,
    /// X, then Z.
    pub(super) sectors: [GaugeSector; 2],
    /// Data qubits of X and of Z of each logical qubit.
    pub(super) logicals: Vec<[Vec<Qubit>; 2]>,
}

const SECTORS: [Pauli; 2] = [Pauli::X, Pauli::Z];

/// The product of one sector over the qubits that are named an odd number of times.
fn product(sector: Pauli, qubits: impl IntoIterator<Item = Qubit>) -> PauliProduct {
    let mut qubits: Vec<Qubit> = qubits.into_iter().collect();
    qubits.sort_unstable();
    drop_pairs(&mut qubits);
    qubits.into_iter().map(|q| (sector, q)).collect()
}

impl Code for Subsystem {
    fn name(&self) -> &'static str {
        self.name
    }

    fn distance(&self) -> u32 {
        self.distance
    }

    fn physical_qubits(&self) -> u32 {
        self.places.len() as u32
    }

    fn is_matchable(&self) -> bool {
        self.matchable
    }

    fn checks(&self) -> Checks {
        let mut checks = Checks { data: (0..self.data).collect(), ..Checks::default() };
        for (sector, name) in self.sectors.iter().zip(SECTORS) {
            let stabilizer = |s: &Vec<usize>| product(name, s.iter().flat_map(|&g| sector.gauges[g].iter().copied()));
            checks.stabilizers.extend(sector.stabilizers.iter().map(stabilizer));
            checks.gauges.extend(sector.gauges.iter().map(|g| product(name, g.iter().copied())));
        }
        let pair = |l: &[Vec<Qubit>; 2]| [0, 1].map(|i| product(SECTORS[i], l[i].iter().copied()));
        checks.logicals = self.logicals.iter().map(pair).collect();
        checks
    }

    /// The memory experiment. A round couples the ancillas of X to their gauges, a layer for each qubit of a gauge,
    /// then those of Z. While one sector is coupled, the ancillas of the other are measured (first layer) and reset
    /// (last layer), so a round takes no other layers.
    ///
    /// Detectors compare stabilizers with the round before. Next to a preparation of X or a measurement of Z of the
    /// data stand gauges of the same sector, and each of them is a detector. Relations are detectors of one round.
    fn memory(&self, basis: Pauli, rounds: u32) -> Circuit {
        let rounds = rounds.max(1);
        let mut c = Circuit::new();
        c.coordinates = self.places.iter().enumerate().map(|(q, at)| (q as Qubit, at.to_vec())).collect();
        let [x, z] = &self.sectors;
        let reset = |c: &mut Circuit, sector: &GaugeSector, name: Pauli| {
            (sector.ancillas..).zip(&sector.gauges).for_each(|(q, _)| c.push(Step::Reset(name, q)));
        };
        let couple = |c: &mut Circuit, sector: &GaugeSector, name: Pauli, layer: usize| {
            for (ancilla, gauge) in (sector.ancillas..).zip(&sector.gauges) {
                let pair = if name == Pauli::X { [ancilla, gauge[layer]] } else { [gauge[layer], ancilla] };
                c.push(Step::Gate2(Clifford2::Cnot, pair));
            }
        };
        (0..self.data).for_each(|q| c.push(Step::Reset(basis, q)));
        reset(&mut c, x, Pauli::X);
        c.push(Step::Tick);
        // Records of the gauges of X and Z in the round before.
        let mut before: [Vec<u32>; 2] = Default::default();
        for round in 0..rounds {
            c.push(Step::Round);
            let last = x.gauges[0].len() - 1;
            for layer in 0..=last {
                couple(&mut c, x, Pauli::X, layer);
                if layer == 0 && round > 0 {
                    self.measure(&mut c, 1, basis, round - 1, &mut before[1]);
                }
                if layer == last {
                    reset(&mut c, z, Pauli::Z);
                }
                c.push(Step::Tick);
            }
            let last = z.gauges[0].len() - 1;
            for layer in 0..=last {
                couple(&mut c, z, Pauli::Z, layer);
                if layer == 0 {
                    self.measure(&mut c, 0, basis, round, &mut before[0]);
                }
                if layer == last && round + 1 < rounds {
                    reset(&mut c, x, Pauli::X);
                }
                c.push(Step::Tick);
            }
        }
        self.measure(&mut c, 1, basis, rounds - 1, &mut before[1]);
        let data: Vec<u32> = (0..self.data).map(|q| c.measure(basis, q)).collect();
        c.push(Step::Tick);
        let which = (basis == Pauli::Z) as usize;
        let sector = &self.sectors[which];
        let singles: Vec<Vec<usize>> = (0..sector.gauges.len()).map(|g| vec![g]).collect();
        for set in if which == 1 { &singles } else { &sector.stabilizers } {
            let gauge =
                |&g: &usize| [before[which][g]].into_iter().chain(sector.gauges[g].iter().map(|&q| data[q as usize]));
            let mut records: Vec<u32> = set.iter().flat_map(gauge).collect();
            records.sort_unstable();
            c.push(Step::Detector(records, self.place(which, set, rounds)));
        }
        for (i, logical) in (0..).zip(&self.logicals) {
            c.push(Step::Observable(i, logical[which].iter().map(|&q| data[q as usize]).collect()));
        }
        c
    }
}

impl Subsystem {
    /// Measures the ancillas of a sector, pushes the detectors of their round, and leaves the records in `before`.
    fn measure(&self, c: &mut Circuit, which: usize, basis: Pauli, round: u32, before: &mut Vec<u32>) {
        let sector = &self.sectors[which];
        let now: Vec<u32> =
            (sector.ancillas..).zip(&sector.gauges).map(|(q, _)| c.measure(SECTORS[which], q)).collect();
        let mut detector = |set: &[usize], old: &[u32]| {
            let records = set.iter().flat_map(|&g| old.get(g).copied().into_iter().chain([now[g]])).collect();
            c.push(Step::Detector(records, self.place(which, set, round)));
        };
        let prepared = round == 0 && SECTORS[which] == basis;
        if prepared && which == 0 {
            // They follow the preparation, so each is known; relations and stabilizers are their sums.
            (0..now.len()).for_each(|g| detector(&[g], &[]));
        } else {
            if prepared || round > 0 {
                sector.stabilizers.iter().for_each(|s| detector(s, before));
            }
            sector.relations.iter().for_each(|s| detector(s, &[]));
        }
        *before = now;
    }

    /// The middle of the ancillas of some gauges, and the round.
    fn place(&self, which: usize, gauges: &[usize], round: u32) -> [f64; 3] {
        let at = |g: &usize| self.places[self.sectors[which].ancillas as usize + g];
        let mean = |axis: usize| gauges.iter().map(|g| at(g)[axis]).sum::<f64>() / gauges.len() as f64;
        [mean(0), mean(1), round as f64]
    }
}
