//! Job parameters: the machine, the error budget, and the constraints of the run.
//!
//! [`JobParams::parse`] reads JSON text into the types of `spec`, which mirror it. `qubit` and `code` fill in defaults
//! and check ranges with the help of `checks`.

mod checks;
mod code;
mod qubit;
mod spec;

pub(crate) use code::{Code, Patch};
pub(crate) use qubit::Qubit;
pub(crate) use spec::{Constraints, ReportedParams};

use crate::error::{EstimateError, Result};
use checks::{nanoseconds, out_of_range};
use spec::{BudgetParts, EstimateType, NumberOr, QubitSpec, Spec};

/// Most bytes of the text of job parameters.
const MAX_BYTES: usize = 64 << 10;

/// Smallest part of an error budget.
const LEAST_BUDGET: f64 = 1e-200;
/// Largest `maxDuration`, in nanoseconds.
const MAX_DURATION: f64 = 1e19;

/// Job parameters, checked, with all defaults filled in.
#[derive(Clone, Debug)]
pub struct JobParams {
    pub(crate) qubit: Qubit,
    pub(crate) code: Code,
    pub(crate) budget: Budget,
    pub(crate) constraints: Constraints,
    pub(crate) reported: ReportedParams,
}

/// The error budget as it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    Total(f64),
    Parts { logical: f64, t_states: f64, rotations: f64 },
}

impl JobParams {
    /// Reads job parameters from JSON; an empty text or object means all defaults.
    ///
    /// # Errors
    /// [`EstimateError`] of kind `Params`: an unknown key, or a value that is missing or out of range, with the range.
    pub fn parse(text: &str) -> Result<JobParams> {
        if text.len() > MAX_BYTES {
            return Err(EstimateError::params(format!(
                "the parameters are {} bytes long; at most {MAX_BYTES}",
                text.len()
            )));
        }
        let read: std::result::Result<Spec, _> =
            if text.trim().is_empty() { Ok(Spec::default()) } else { serde_json::from_str(text) };
        let mut spec = read.map_err(|e| EstimateError::params(e.to_string()))?;
        if spec.estimate_type == EstimateType::Frontier {
            let message = "estimateType \"frontier\" is not available; \"singlePoint\" is";
            return Err(EstimateError::params(message));
        }
        let mut qubit_params = spec
            .qubit_params
            .unwrap_or_else(|| QubitSpec { name: Some("qubit_gate_ns_e3".into()), ..QubitSpec::default() });
        let (qubit, times) = qubit_params.complete()?;
        let code = spec.qec_scheme.complete(&qubit, times)?;
        let given = spec.error_budget.unwrap_or(NumberOr::Number(1e-3));
        let range = format!("at least {LEAST_BUDGET:e} and below 1");
        let part = |key: &str, value: f64, zero: bool| {
            let inside = (LEAST_BUDGET..1.0).contains(&value) || (zero && value == 0.0);
            if inside { Ok(()) } else { Err(out_of_range(key, value, &range)) }
        };
        let budget = match given {
            NumberOr::Number(total) => {
                part("errorBudget", total, false)?;
                Budget::Total(total)
            }
            NumberOr::Parts(BudgetParts { logical, t_states, rotations }) => {
                part("errorBudget.logical", logical, false)?;
                // A program without T states or rotations needs no budget for them.
                part("errorBudget.tStates", t_states, true)?;
                part("errorBudget.rotations", rotations, true)?;
                part("errorBudget, the sum of its parts,", logical + t_states + rotations, false)?;
                Budget::Parts { logical, t_states, rotations }
            }
        };
        let c = &mut spec.constraints;
        if let Some(factor) = c.logical_depth_factor.filter(|f| !(1.0..=1e9).contains(f)) {
            return Err(out_of_range("constraints.logicalDepthFactor", factor, "from 1 to 1e9"));
        }
        let positive = [("maxTFactories", c.max_t_factories), ("maxPhysicalQubits", c.max_physical_qubits)];
        for (key, value) in positive {
            if value == Some(0) {
                return Err(out_of_range(&format!("constraints.{key}"), 0, "at least 1"));
            }
        }
        if !(1..=4).contains(&c.max_distillation_rounds) {
            return Err(out_of_range("constraints.maxDistillationRounds", c.max_distillation_rounds, "from 1 to 4"));
        }
        if let Some(text) = &c.max_duration {
            let ns = nanoseconds("constraints.maxDuration", text, MAX_DURATION)?;
            c.max_duration_ns = Some(ns);
            c.max_duration = Some(format!("{ns} ns"));
        }
        if c.max_duration.is_some() && c.max_physical_qubits.is_some() {
            let message = "constraints: give maxDuration or maxPhysicalQubits, not both";
            return Err(EstimateError::params(message));
        }
        let reported = ReportedParams {
            qec_scheme: spec.qec_scheme,
            error_budget: given,
            qubit_params,
            constraints: spec.constraints.clone(),
            estimate_type: EstimateType::SinglePoint,
        };
        Ok(JobParams { qubit, code, budget, constraints: spec.constraints, reported })
    }
}

#[cfg(test)]
mod tests {
    use super::JobParams;

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        let table = [
            (
                r#"{"constraints": {"logicalDepthFactor": 0.99}}"#,
                "logicalDepthFactor is 0.99; it must be from 1 to 1e9",
            ),
            (r#"{"constraints": {"maxTFactories": 0}}"#, "maxTFactories is 0; it must be at least 1"),
            (r#"{"constraints": {"maxDistillationRounds": 5}}"#, "it must be from 1 to 4"),
            (r#"{"constraints": {"maxDuration": "5"}}"#, "write a number and its unit"),
            (r#"{"constraints": {"maxDuration": "0.2 ns"}}"#, "from 1 ns to 1e10 s"),
            (r#"{"constraints": {"maxDuration": "1 s", "maxPhysicalQubits": 3}}"#, "not both"),
            (r#"{"qecScheme": {"distanceCoefficientPower": 11}}"#, "it must be from 0 to 10"),
            (r#"{"qecScheme": {"crossingPrefactor": 0.6}}"#, "above 0 and at most 0.5"),
            (r#"{"qecScheme": {"maxCodeDistance": 101}}"#, "it must be from 1 to 99"),
            (r#"{"qecScheme": {"name": "mine"}}"#, "errorCorrectionThreshold is missing for \"mine\""),
            (r#"{"qecScheme": {"name": "floquet_code"}}"#, "gate-based qubits"),
            (r#"{"qecScheme": {"logicalCycleTime": "tGateTime"}}"#, "logicalCycleTime: tGateTime has no value here"),
            (r#"{"qecScheme": {"physicalQubitsPerLogicalQubit": "9 - codeDistance"}}"#, "at codeDistance 9 is 0"),
            (r#"{"qubitParams": {"name": "qubit_gate_ns_e3", "tGateErrorRate": 1}}"#, "above 0 and below 1"),
            (
                r#"{"qubitParams": {"name": "qubit_gate_ns_e3", "idleErrorRate": 0.01}}"#,
                "must be below the threshold 0.01",
            ),
            (
                r#"{"qubitParams": {"name": "qubit_maj_ns_e4", "oneQubitGateTime": "1 ns"}}"#,
                "Majorana qubits have none",
            ),
            (r#"{"qubitParams": {"name": "mine"}}"#, "instructionSet (\"GateBased\" or \"Majorana\") is missing"),
            (r#"{"qubitParams": {"instructionSet": "Majorana"}}"#, "oneQubitMeasurementTime is missing"),
            (r#"{"errorBudget": {"logical": 0.5, "tStates": 0.5, "rotations": 0.1}}"#, "the sum of its parts"),
            (r#"{"errorBudget": {"logical": 0.5}}"#, "missing field `tStates`"),
            (r#"{"errorBudget": {"logical": 0.1, "tStates": 0.1, "rotations": 0.1, "x": 1}}"#, "unknown field `x`"),
            (r#"{"errorBudget": 1, "errorBudget": 0.1}"#, "duplicate field `errorBudget`"),
        ];
        for (text, want) in table {
            let e = JobParams::parse(text).unwrap_err();
            assert!(e.message.contains(want), "{text}: {e}");
        }
    }
}
