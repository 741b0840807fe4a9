//! Error correction codes: the predefined ones, and the patches of one at each distance.

use super::checks::{CYCLE_TIME_NAMES, clip, out_of_range, rate};
use super::qubit::Qubit;
use super::spec::SchemeSpec;
use crate::error::{EstimateError, Result};
use crate::formula::Formula;

/// Largest code distance of a search. The search for factories grows with each distance.
const MAX_DISTANCE: u64 = 99;
/// Largest values of the formulas: physical qubits per logical qubit, and nanoseconds of a logical cycle.
const MAX_PATCH: f64 = 1e9;
const MAX_CYCLE: f64 = 1e15;

/// A code with a threshold, as a function of its distance.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) threshold: f64,
    prefactor: f64,
    /// Power of the distance in the logical error rate.
    power: u32,
    pub(crate) max_distance: u64,
    /// Patches of distances 1, 3, 5 and so on; `None` where a formula has no value in range.
    patches: Vec<Option<Patch>>,
    physical_error_rate: f64,
}

/// A logical qubit of some code distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Patch {
    pub(crate) distance: u64,
    pub(crate) physical_qubits: u64,
    /// Nanoseconds.
    pub(crate) cycle_time: u64,
    /// Probability that it fails in one logical cycle.
    pub(crate) error_rate: f64,
}

impl SchemeSpec {
    /// Fills in the defaults of a predefined code, and computes the patches of all distances.
    ///
    /// # Errors
    /// A parameter that is missing or out of range; a qubit whose error rate is not below the threshold.
    pub(super) fn complete(&mut self, qubit: &Qubit, times: [f64; 4]) -> Result<Code> {
        let name = clip(self.name.get_or_insert_with(|| "surface_code".into()));
        self.name = Some(name.clone());
        if let Some((threshold, prefactor, cycle, qubits)) = predefined(&name, qubit.majorana)? {
            self.error_correction_threshold.get_or_insert(threshold);
            self.crossing_prefactor.get_or_insert(prefactor);
            self.logical_cycle_time.get_or_insert_with(|| cycle.into());
            self.physical_qubits_per_logical_qubit.get_or_insert_with(|| qubits.into());
        }
        let missing = |key: &str| {
            let which = "which is neither surface_code nor floquet_code";
            EstimateError::params(format!("qecScheme.{key} is missing for {name:?}, {which}"))
        };
        let threshold = self.error_correction_threshold.ok_or_else(|| missing("errorCorrectionThreshold"))?;
        rate("qecScheme.errorCorrectionThreshold", threshold)?;
        let prefactor = self.crossing_prefactor.ok_or_else(|| missing("crossingPrefactor"))?;
        if !(prefactor > 0.0 && prefactor <= 0.5) {
            return Err(out_of_range("qecScheme.crossingPrefactor", prefactor, "above 0 and at most 0.5"));
        }
        let power = *self.distance_coefficient_power.get_or_insert(0);
        if power > 10 {
            return Err(out_of_range("qecScheme.distanceCoefficientPower", power, "from 0 to 10"));
        }
        let max_distance = *self.max_code_distance.get_or_insert(50);
        if !(1..=MAX_DISTANCE).contains(&max_distance) {
            let range = format!("from 1 to {MAX_DISTANCE}");
            return Err(out_of_range("qecScheme.maxCodeDistance", max_distance, &range));
        }
        let formula = |key: &str, text: &Option<String>, names: &[&str]| {
            let text = text.as_ref().ok_or_else(|| missing(key))?;
            Formula::parse(text, names).map_err(|e| EstimateError::params(format!("qecScheme.{key}: {e}")))
        };
        // A Majorana qubit has no gates, the others no joint measurements.
        let has: Vec<usize> = (0..CYCLE_TIME_NAMES.len()).filter(|&i| i < 2 || (i == 4) == qubit.majorana).collect();
        let names: Vec<&str> = has.iter().map(|&i| CYCLE_TIME_NAMES[i]).collect();
        let cycle = formula("logicalCycleTime", &self.logical_cycle_time, &names)?;
        let only_distance = &CYCLE_TIME_NAMES[..1];
        let physical =
            formula("physicalQubitsPerLogicalQubit", &self.physical_qubits_per_logical_qubit, only_distance)?;
        if qubit.physical_error_rate >= threshold {
            let rate = qubit.physical_error_rate;
            let message = format!(
                "qubitParams: the worst error rate of the qubit, {rate}, must be below the threshold {threshold} of the code \
                 (qecScheme.errorCorrectionThreshold)"
            );
            return Err(EstimateError::params(message));
        }
        let physical_error_rate = qubit.physical_error_rate;
        let mut code = Code { threshold, prefactor, power, max_distance, patches: Vec::new(), physical_error_rate };
        let values = |distance: u64| {
            let all = [distance as f64, times[0], times[1], times[2], times[3]];
            has.iter().map(|&i| all[i]).collect()
        };
        code.make_patches(&physical, &cycle, values)?;
        Ok(code)
    }
}

/// Threshold, crossing prefactor, logical cycle time and physical qubits per logical qubit of a code.
type Predefined = (f64, f64, &'static str, &'static str);

/// The predefined code of a name (Table II of arXiv:2211.07629).
fn predefined(name: &str, majorana: bool) -> Result<Option<Predefined>> {
    Ok(match (name, majorana) {
        ("surface_code" | "surfaceCode" | "surface-code", false) => Some((
            0.01,
            0.03,
            "(4 * twoQubitGateTime + 2 * oneQubitMeasurementTime) * codeDistance",
            "2 * codeDistance * codeDistance",
        )),
        ("surface_code" | "surfaceCode" | "surface-code", true) => {
            Some((0.0015, 0.08, "20 * oneQubitMeasurementTime * codeDistance", "2 * codeDistance * codeDistance"))
        }
        ("floquet_code" | "floquetCode" | "floquet-code", true) => Some((
            0.01,
            0.07,
            "3 * oneQubitMeasurementTime * codeDistance",
            "4 * codeDistance * codeDistance + 8 * (codeDistance - 1)",
        )),
        ("floquet_code" | "floquetCode" | "floquet-code", false) => {
            let message = "qecScheme: floquet_code measures pairs of qubits, which gate-based qubits do not; use \
                           surface_code, or Majorana qubits";
            return Err(EstimateError::params(message));
        }
        _ => None,
    })
}

impl Code {
    /// Computes the patch of each odd distance by the formulas of its physical qubits and its cycle time. `values`
    /// gives the numbers that the names of the formulas stand for, the distance first.
    fn make_patches(&mut self, physical: &Formula, cycle: &Formula, values: impl Fn(u64) -> Vec<f64>) -> Result<()> {
        for distance in (1..=self.max_distance).step_by(2) {
            let values = values(distance);
            let inside = |key: &str, value: f64, most: f64, formula: &Formula| {
                let key = format!("qecScheme.{key} = {:?} at codeDistance {distance}", formula.text());
                let range = format!("from 1 to {most:e}");
                if value >= 1.0 && value <= most { Ok(value as u64) } else { Err(out_of_range(&key, value, &range)) }
            };
            let physical_qubits = physical.value(&values[..1]).trunc();
            let cycle_time = cycle.value(&values).round();
            let checked = inside("physicalQubitsPerLogicalQubit", physical_qubits, MAX_PATCH, physical)
                .and_then(|q| Ok((q, inside("logicalCycleTime", cycle_time, MAX_CYCLE, cycle)?)));
            let error_rate = self.error_rate(distance);
            self.patches.push(match checked {
                Ok((physical_qubits, cycle_time)) => Some(Patch { distance, physical_qubits, cycle_time, error_rate }),
                // A formula need not hold for a single qubit.
                Err(_) if distance == 1 => None,
                Err(e) => return Err(e),
            });
        }
        Ok(())
    }

    /// Probability that a logical qubit fails in one cycle: a d^k (p / p*)^((d + 1) / 2) (arXiv:2211.07629, eq. (3);
    /// the factor d^k is the estimator's, with k = 0 by default).
    fn error_rate(&self, distance: u64) -> f64 {
        let scale = (distance as f64).powi(self.power as i32);
        self.prefactor * scale * (self.physical_error_rate / self.threshold).powi((distance as i32 + 1) / 2)
    }

    /// The smallest odd distance with at most this error rate. It may exceed `max_distance`.
    pub(crate) fn distance_for(&self, error_rate: f64) -> Option<u64> {
        if self.power > 0 {
            return (1..=self.max_distance).step_by(2).find(|&d| self.error_rate(d) <= error_rate);
        }
        // The same, solved for d (arXiv:2211.07629, eq. (E2)).
        let d = 2.0 * (self.prefactor / error_rate).ln() / (self.threshold / self.physical_error_rate).ln() - 1.0;
        d.is_finite().then(|| d.ceil() as u64 | 1)
    }

    /// The logical qubit of an odd distance.
    pub(crate) fn patch(&self, distance: u64) -> Option<&Patch> {
        self.patches.get(distance as usize / 2)?.as_ref()
    }
}
