//! Job parameters: what the machine is, and what the run must keep to.

use crate::formula::Formula;
use crate::{EstimateError, Result};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// Bytes of the text of job parameters.
const MAX_BYTES: usize = 64 << 10;
/// Longest operation of a qubit, in nanoseconds: 1000 s.
const MAX_TIME: f64 = 1e12;
/// Largest code distance that is looked at; each one more makes the search for factories longer.
const MAX_DISTANCE: u64 = 99;
/// Largest physical qubits per logical qubit, and nanoseconds of a logical cycle, of a formula.
const MAX_PATCH: f64 = 1e9;
const MAX_CYCLE: f64 = 1e15;
/// Smallest part of an error budget.
const LEAST_BUDGET: f64 = 1e-200;
/// Longest run that is asked for, in nanoseconds.
const MAX_DURATION: f64 = 1e19;

/// Names that formulas of a logical cycle time may use.
const TIMES: [&str; 5] =
    ["codeDistance", "oneQubitMeasurementTime", "oneQubitGateTime", "twoQubitGateTime", "twoQubitJointMeasurementTime"];

/// Job parameters, checked, with all defaults filled in.
#[derive(Clone, Debug)]
pub struct JobParams {
    pub(crate) qubit: Qubit,
    pub(crate) code: Code,
    pub(crate) budget: Budget,
    pub(crate) constraints: Constraints,
    pub(crate) echo: Echo,
}

/// The parameters as the report shows them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Echo {
    qec_scheme: SchemeSpec,
    error_budget: NumberOr<BudgetParts>,
    qubit_params: QubitSpec,
    constraints: Constraints,
    estimate_type: EstimateType,
}

/// What an estimate needs to know of a physical qubit.
#[derive(Clone, Debug)]
pub(crate) struct Qubit {
    majorana: bool,
    /// Nanoseconds of a T gate.
    pub(crate) t_time: u64,
    /// Worst error rate of what error correction is made of, without and with readout.
    pub(crate) clifford_error_rate: f64,
    pub(crate) physical_error_rate: f64,
    pub(crate) t_error_rate: f64,
}

/// A code with a threshold, as a function of its distance.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) threshold: f64,
    prefactor: f64,
    /// Power of the distance in the logical error rate.
    power: u32,
    pub(crate) max_distance: u64,
    /// Of distances 1, 3, 5 and so on; `None` where a formula gives none.
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

/// The error budget as it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    Total(f64),
    Parts { logical: f64, t_states: f64, rotations: f64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Constraints {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) logical_depth_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_t_factories: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_duration: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_physical_qubits: Option<u64>,
    #[serde(default = "three")]
    pub(crate) max_distillation_rounds: u64,
    /// Nanoseconds.
    #[serde(skip)]
    pub(crate) max_duration_ns: Option<u64>,
}

fn three() -> u64 {
    3
}

impl Default for Constraints {
    fn default() -> Self {
        Constraints {
            logical_depth_factor: None,
            max_t_factories: None,
            max_duration: None,
            max_physical_qubits: None,
            max_distillation_rounds: three(),
            max_duration_ns: None,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SchemeSpec {
    name: Option<String>,
    error_correction_threshold: Option<f64>,
    crossing_prefactor: Option<f64>,
    distance_coefficient_power: Option<u32>,
    logical_cycle_time: Option<String>,
    physical_qubits_per_logical_qubit: Option<String>,
    max_code_distance: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QubitSpec {
    instruction_set: Option<String>,
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    one_qubit_measurement_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    one_qubit_gate_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    two_qubit_gate_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    two_qubit_joint_measurement_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_gate_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    one_qubit_measurement_error_rate: Option<NumberOr<MeasurementError>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    two_qubit_joint_measurement_error_rate: Option<NumberOr<MeasurementError>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    one_qubit_gate_error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    two_qubit_gate_error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_gate_error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_error_rate: Option<f64>,
}

/// Error rates of a measurement: of the state that it leaves, and of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasurementError {
    process: f64,
    readout: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BudgetParts {
    logical: f64,
    t_states: f64,
    rotations: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum EstimateType {
    #[default]
    SinglePoint,
    Frontier,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Spec {
    qec_scheme: SchemeSpec,
    error_budget: Option<NumberOr<BudgetParts>>,
    qubit_params: Option<QubitSpec>,
    constraints: Constraints,
    estimate_type: EstimateType,
}

/// One number, or an object of several. Unlike an untagged enum it says what is wrong with the object.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum NumberOr<T> {
    Number(f64),
    Parts(T),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for NumberOr<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Either<T> {
            type Value = NumberOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or an object")
            }

            fn visit_f64<E>(self, v: f64) -> std::result::Result<Self::Value, E> {
                Ok(NumberOr::Number(v))
            }

            fn visit_u64<E>(self, v: u64) -> std::result::Result<Self::Value, E> {
                Ok(NumberOr::Number(v as f64))
            }

            fn visit_i64<E>(self, v: i64) -> std::result::Result<Self::Value, E> {
                Ok(NumberOr::Number(v as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(NumberOr::Parts)
            }
        }
        d.deserialize_any(Either(PhantomData))
    }
}

impl NumberOr<MeasurementError> {
    fn both(self) -> MeasurementError {
        match self {
            NumberOr::Number(x) => MeasurementError { process: x, readout: x },
            NumberOr::Parts(parts) => parts,
        }
    }
}

fn out_of_range(key: &str, value: impl fmt::Display, range: &str) -> EstimateError {
    EstimateError::params(format!("{key} is {value}; it must be {range}"))
}

/// An error rate lies between 0 and 1, both excluded.
fn rate(key: &str, value: f64) -> Result<f64> {
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(out_of_range(key, value, "above 0 and below 1")) }
}

/// Nanoseconds of a time such as `50 ns` or `1.5 us`.
fn nanoseconds(key: &str, text: &str, most: f64) -> Result<u64> {
    let trimmed = text.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(char::is_alphabetic).unwrap_or(trimmed.len()));
    let scale = match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => {
            let shown: String = text.chars().take(40).collect();
            let message = format!("{key} is {shown:?}; write a number and its unit, s, ms, us or ns, as in \"50 ns\"");
            return Err(EstimateError::params(message));
        }
    };
    let ns = number.trim().parse::<f64>().map_or(f64::NAN, |x| (x * scale).round());
    if ns >= 1.0 && ns <= most {
        return Ok(ns as u64);
    }
    let shown: String = text.chars().take(40).collect();
    Err(out_of_range(key, format_args!("{shown:?}"), &format!("from 1 ns to {:e} s", most / 1e9)))
}

/// The six predefined qubits (Table I of arXiv:2211.07629): measurement and gate time in nanoseconds, and error rates of
/// the Clifford operations and of the T gate.
fn predefined(name: &str) -> Option<QubitSpec> {
    let (measurement, gate, clifford, t) = match name {
        "qubit_gate_ns_e3" => ("100 ns", Some("50 ns"), 1e-3, 1e-3),
        "qubit_gate_ns_e4" => ("100 ns", Some("50 ns"), 1e-4, 1e-4),
        "qubit_gate_us_e3" => ("100 us", Some("100 us"), 1e-3, 1e-6),
        "qubit_gate_us_e4" => ("100 us", Some("100 us"), 1e-4, 1e-6),
        "qubit_maj_ns_e4" => ("100 ns", None, 1e-4, 5e-2),
        "qubit_maj_ns_e6" => ("100 ns", None, 1e-6, 1e-2),
        _ => return None,
    };
    let mut q = QubitSpec {
        one_qubit_measurement_time: Some(measurement.into()),
        one_qubit_measurement_error_rate: Some(NumberOr::Number(clifford)),
        t_gate_time: Some(gate.unwrap_or(measurement).into()),
        t_gate_error_rate: Some(t),
        idle_error_rate: Some(clifford),
        ..QubitSpec::default()
    };
    match gate {
        Some(gate) => {
            q.instruction_set = Some("GateBased".into());
            (q.one_qubit_gate_time, q.two_qubit_gate_time) = (Some(gate.into()), Some(gate.into()));
            (q.one_qubit_gate_error_rate, q.two_qubit_gate_error_rate) = (Some(clifford), Some(clifford));
        }
        None => {
            q.instruction_set = Some("Majorana".into());
            q.two_qubit_joint_measurement_time = Some(measurement.into());
            q.two_qubit_joint_measurement_error_rate = Some(NumberOr::Number(clifford));
        }
    }
    Some(q)
}

/// Takes what is absent from a default.
macro_rules! fill {
    ($spec:expr, $from:expr, $($field:ident)*) => { $( $spec.$field = $spec.$field.take().or($from.$field.clone()); )* };
}

impl QubitSpec {
    /// Fills in the defaults; returns the values of [`TIMES`] but for the code distance.
    fn complete(&mut self) -> Result<(Qubit, [f64; 4])> {
        const GATE_BASED: [&str; 4] = ["GateBased", "gateBased", "gate_based", "gate-based"];
        let known = self.name.as_deref().and_then(predefined);
        let set = self.instruction_set.clone().or(known.as_ref().and_then(|q| q.instruction_set.clone()));
        let set = set.ok_or_else(|| {
            let named = self.name.as_deref().map_or(String::new(), |n| format!(" for {:?}", clip(n)));
            EstimateError::params(format!(
                "qubitParams: instructionSet (\"GateBased\" or \"Majorana\") is missing{named}; the predefined qubits are \
                 qubit_gate_ns_e3, qubit_gate_ns_e4, qubit_gate_us_e3, qubit_gate_us_e4, qubit_maj_ns_e4, qubit_maj_ns_e6"
            ))
        })?;
        let majorana = match set.as_str() {
            "Majorana" | "majorana" => true,
            s if GATE_BASED.contains(&s) => false,
            s => {
                return Err(out_of_range(
                    "qubitParams.instructionSet",
                    format_args!("{:?}", clip(s)),
                    "GateBased or Majorana",
                ));
            }
        };
        if let Some(q) = known.filter(|q| (q.instruction_set.as_deref() == Some("Majorana")) == majorana) {
            fill!(self, q, one_qubit_measurement_time one_qubit_gate_time two_qubit_gate_time
                two_qubit_joint_measurement_time t_gate_time one_qubit_measurement_error_rate
                two_qubit_joint_measurement_error_rate one_qubit_gate_error_rate two_qubit_gate_error_rate
                t_gate_error_rate idle_error_rate);
        }
        let foreign = [
            ("oneQubitGateTime", self.one_qubit_gate_time.is_some(), false),
            ("twoQubitGateTime", self.two_qubit_gate_time.is_some(), false),
            ("oneQubitGateErrorRate", self.one_qubit_gate_error_rate.is_some(), false),
            ("twoQubitGateErrorRate", self.two_qubit_gate_error_rate.is_some(), false),
            ("twoQubitJointMeasurementTime", self.two_qubit_joint_measurement_time.is_some(), true),
            ("twoQubitJointMeasurementErrorRate", self.two_qubit_joint_measurement_error_rate.is_some(), true),
        ];
        if let Some((key, ..)) = foreign.iter().find(|(_, given, of_majorana)| *given && *of_majorana != majorana) {
            let kind = if majorana { "Majorana" } else { "gate-based" };
            return Err(EstimateError::params(format!("qubitParams.{key}: {kind} qubits have none; leave it out")));
        }
        let missing = |key: &str| EstimateError::params(format!("qubitParams.{key} is missing"));
        let measurement_text =
            self.one_qubit_measurement_time.clone().ok_or_else(|| missing("oneQubitMeasurementTime"))?;
        let measured = self.one_qubit_measurement_error_rate.ok_or_else(|| missing("oneQubitMeasurementErrorRate"))?;
        let t_error_rate = self.t_gate_error_rate.ok_or_else(|| missing("tGateErrorRate"))?;
        let rates = |key: &str, m: MeasurementError| {
            rate(&format!("qubitParams.{key}.process"), m.process)?;
            rate(&format!("qubitParams.{key}.readout"), m.readout)
        };
        let one = measured.both();
        rates("oneQubitMeasurementErrorRate", one)?;
        self.idle_error_rate.get_or_insert(one.readout);
        let (clifford_error_rate, readout);
        if majorana {
            self.two_qubit_joint_measurement_time.get_or_insert_with(|| measurement_text.clone());
            self.t_gate_time.get_or_insert_with(|| measurement_text.clone());
            let same = MeasurementError { process: one.readout, readout: one.readout };
            let two = self.two_qubit_joint_measurement_error_rate.map_or(same, NumberOr::both);
            rates("twoQubitJointMeasurementErrorRate", two)?;
            self.one_qubit_measurement_error_rate = Some(NumberOr::Parts(one));
            self.two_qubit_joint_measurement_error_rate = Some(NumberOr::Parts(two));
            clifford_error_rate = one.process.max(two.process);
            readout = one.readout.max(two.readout);
        } else {
            let NumberOr::Number(one) = measured else {
                let key = "qubitParams.oneQubitMeasurementErrorRate";
                return Err(EstimateError::params(format!("{key}: of a gate-based qubit it is one number")));
            };
            let gate = self.one_qubit_gate_time.clone().ok_or_else(|| missing("oneQubitGateTime"))?;
            let gate_error = self.one_qubit_gate_error_rate.ok_or_else(|| missing("oneQubitGateErrorRate"))?;
            self.two_qubit_gate_time.get_or_insert_with(|| gate.clone());
            self.t_gate_time.get_or_insert(gate);
            let two = *self.two_qubit_gate_error_rate.get_or_insert(gate_error);
            clifford_error_rate = rate("qubitParams.oneQubitGateErrorRate", gate_error)?
                .max(rate("qubitParams.twoQubitGateErrorRate", two)?);
            readout = one;
        }
        let idle = rate("qubitParams.idleErrorRate", self.idle_error_rate.unwrap_or(f64::NAN))?;
        let clifford_error_rate = clifford_error_rate.max(idle);
        let time = |key: &str, text: &mut Option<String>| -> Result<u64> {
            let Some(given) = text.as_deref() else { return Ok(0) };
            let ns = nanoseconds(&format!("qubitParams.{key}"), given, MAX_TIME)?;
            *text = Some(format!("{ns} ns"));
            Ok(ns)
        };
        let t_time = time("tGateTime", &mut self.t_gate_time)?;
        let times = [
            time(TIMES[1], &mut self.one_qubit_measurement_time)? as f64,
            time(TIMES[2], &mut self.one_qubit_gate_time)? as f64,
            time(TIMES[3], &mut self.two_qubit_gate_time)? as f64,
            time(TIMES[4], &mut self.two_qubit_joint_measurement_time)? as f64,
        ];
        self.instruction_set = Some(if majorana { "Majorana" } else { "GateBased" }.into());
        let name = self.name.take().unwrap_or_default();
        self.name = Some(clip(&name));
        let qubit = Qubit {
            majorana,
            t_time,
            clifford_error_rate,
            physical_error_rate: clifford_error_rate.max(readout),
            t_error_rate: rate("qubitParams.tGateErrorRate", t_error_rate)?,
        };
        Ok((qubit, times))
    }
}

/// A text that is repeated to its author, not too much of it.
fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

impl SchemeSpec {
    /// Fills in what a predefined code has (Table II of arXiv:2211.07629).
    fn complete(&mut self, qubit: &Qubit, times: [f64; 4]) -> Result<Code> {
        let name = clip(self.name.get_or_insert_with(|| "surface_code".into()));
        self.name = Some(name.clone());
        let default = match (name.as_str(), qubit.majorana) {
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
        };
        if let Some((threshold, prefactor, cycle, qubits)) = default {
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
        let has: Vec<usize> = (0..TIMES.len()).filter(|&i| i < 2 || (i == 4) == qubit.majorana).collect();
        let names: Vec<&str> = has.iter().map(|&i| TIMES[i]).collect();
        let cycle = formula("logicalCycleTime", &self.logical_cycle_time, &names)?;
        let physical = formula("physicalQubitsPerLogicalQubit", &self.physical_qubits_per_logical_qubit, &TIMES[..1])?;
        if qubit.physical_error_rate >= threshold {
            let rate = qubit.physical_error_rate;
            let message = format!(
                "qubitParams: the worst error rate of the qubit, {rate}, must be below the threshold {threshold} of the code \
                 (qecScheme.errorCorrectionThreshold)"
            );
            return Err(EstimateError::params(message));
        }
        let mut code = Code {
            threshold,
            prefactor,
            power,
            max_distance,
            patches: Vec::new(),
            physical_error_rate: qubit.physical_error_rate,
        };
        for distance in (1..=max_distance).step_by(2) {
            let mut values = [distance as f64, times[0], times[1], times[2], times[3]];
            let physical_qubits = physical.value(&values[..1]).trunc();
            for (to, from) in has.iter().enumerate() {
                values[to] = values[*from];
            }
            let cycle_time = cycle.value(&values).round();
            let inside = |key: &str, value: f64, most: f64, formula: &Formula| {
                let key = format!("qecScheme.{key} = {:?} at codeDistance {distance}", formula.text());
                let range = format!("from 1 to {most:e}");
                if value >= 1.0 && value <= most { Ok(value as u64) } else { Err(out_of_range(&key, value, &range)) }
            };
            let checked = inside("physicalQubitsPerLogicalQubit", physical_qubits, MAX_PATCH, &physical)
                .and_then(|q| Ok((q, inside("logicalCycleTime", cycle_time, MAX_CYCLE, &cycle)?)));
            let error_rate = code.error_rate(distance);
            code.patches.push(match checked {
                Ok((physical_qubits, cycle_time)) => Some(Patch { distance, physical_qubits, cycle_time, error_rate }),
                // A formula need not hold for a single qubit.
                Err(_) if distance == 1 => None,
                Err(e) => return Err(e),
            });
        }
        Ok(code)
    }
}

impl Code {
    /// Probability that a logical qubit fails in one cycle: a d^k (p / p*)^((d + 1) / 2) (arXiv:2211.07629, eq. (3); the
    /// factor d^k is the estimator's, with k = 0 by default).
    fn error_rate(&self, distance: u64) -> f64 {
        let scale = (distance as f64).powi(self.power as i32);
        self.prefactor * scale * (self.physical_error_rate / self.threshold).powi((distance as i32 + 1) / 2)
    }

    /// The smallest odd distance with at most this error rate; it may be larger than what is allowed, or `None`.
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

impl Echo {
    /// Names of the code and of the qubit.
    pub(crate) fn names(&self) -> (&str, &str) {
        let qubit = self.qubit_params.name.as_deref().filter(|n| !n.is_empty()).unwrap_or("custom");
        (self.qec_scheme.name.as_deref().unwrap_or_default(), qubit)
    }
}

impl JobParams {
    /// Reads job parameters from JSON; an empty text or object means all defaults.
    ///
    /// # Errors
    /// Unknown keys, by name; values that are missing or out of range, with the range.
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
                // What a program does not do needs no budget.
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
        let echo = Echo {
            qec_scheme: spec.qec_scheme,
            error_budget: given,
            qubit_params,
            constraints: spec.constraints.clone(),
            estimate_type: EstimateType::SinglePoint,
        };
        Ok(JobParams { qubit, code, budget, constraints: spec.constraints, echo })
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
