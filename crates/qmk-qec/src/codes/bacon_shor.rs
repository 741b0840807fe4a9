//! Bacon-Shor codes (Bacon, quant-ph/0506023; Aliferis and Cross, quant-ph/0610063).

use super::subsystem::{GaugeSector, Subsystem};
use crate::error::{DistanceError, QecError};
use qmk_abi::image::Qubit;
use std::ops::RangeInclusive;

/// Distances that can be had. Larger ones are no use: the code has no threshold, and the best distance at an error rate
/// of 10⁻⁴ is far smaller.
const DISTANCES: RangeInclusive<u32> = 3..=51;

impl Subsystem {
    /// The \[\[d², 1, d\]\] Bacon-Shor code on a d × d grid: gauges XX of vertical and ZZ of horizontal neighbours.
    ///
    /// The stabilizers are X on two neighbouring rows and Z on two neighbouring columns. Logical X is a row, logical Z
    /// a column. Data qubit `d * row + column` comes first, then an ancilla for each gauge, d² + 2d(d - 1) qubits in
    /// all. A round takes four layers of CNOTs, two for XX, then two for ZZ; while ancillas of one sector meet the
    /// data, those of the other are measured and reset.
    ///
    /// A detector is the product of the d gauges of a stabilizer in one round and the round before. Gauges XX right
    /// after a preparation in X and ZZ right before a measurement in Z are detectors one by one.
    ///
    /// # Errors
    /// If the distance is not between 3 and 51.
    pub fn bacon_shor(distance: u32) -> Result<Self, QecError> {
        if !DISTANCES.contains(&distance) {
            let (low, high) = DISTANCES.into_inner();
            return Err(DistanceError::OfFamily { family: "Bacon-Shor", distance, low, high }.into());
        }
        let d = distance;
        let at = |row: Qubit, column: Qubit| d * row + column;
        let cells = |rows: u32, columns: u32| (0..rows).flat_map(move |r| (0..columns).map(move |c| (r, c)));
        let mut places: Vec<[f64; 2]> = cells(d, d).map(|(r, c)| [c as f64, r as f64]).collect();
        places.extend(cells(d - 1, d).map(|(r, c)| [c as f64, r as f64 + 0.5]));
        places.extend(cells(d, d - 1).map(|(r, c)| [c as f64 + 0.5, r as f64]));
        let n = d as usize;
        let x = GaugeSector {
            gauges: cells(d - 1, d).map(|(r, c)| vec![at(r, c), at(r + 1, c)]).collect(),
            ancillas: d * d,
            stabilizers: (0..n - 1).map(|r| (0..n).map(|c| n * r + c).collect()).collect(),
            relations: Vec::new(),
        };
        let z = GaugeSector {
            gauges: cells(d, d - 1).map(|(r, c)| vec![at(r, c), at(r, c + 1)]).collect(),
            ancillas: d * d + d * (d - 1),
            stabilizers: (0..n - 1).map(|c| (0..n).map(|r| (n - 1) * r + c).collect()).collect(),
            relations: Vec::new(),
        };
        let logicals = vec![[(0..d).map(|c| at(0, c)).collect(), (0..d).map(|r| at(r, 0)).collect()]];
        let name = "bacon_shor";
        Ok(Subsystem { name, distance, matchable: true, places, data: d * d, sectors: [x, z], logicals })
    }
}
