//! Physical qubits: the predefined ones, and the times and error rates of one.

use super::checks::{CYCLE_TIME_NAMES, clip, nanoseconds, out_of_range, rate};
use super::spec::{MeasurementError, NumberOr, QubitSpec};
use crate::error::{EstimateError, Result};

/// Longest operation of a qubit, in nanoseconds: 1000 s.
const MAX_TIME: f64 = 1e12;

/// The times and error rates of a physical qubit that an estimate uses.
#[derive(Clone, Debug)]
pub(crate) struct Qubit {
    pub(super) majorana: bool,
    /// Nanoseconds of a T gate.
    pub(crate) t_time: u64,
    /// Worst error rate of the operations of error correction, without readout here and with readout below.
    pub(crate) clifford_error_rate: f64,
    pub(crate) physical_error_rate: f64,
    pub(crate) t_error_rate: f64,
}

/// The six predefined qubits (Table I of arXiv:2211.07629): measurement and gate time in nanoseconds, and error rates
/// of the Clifford operations and of the T gate.
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

/// Takes absent fields from a default.
macro_rules! fill_absent {
    ($spec:expr, $from:expr, $($field:ident)*) => { $( $spec.$field = $spec.$field.take().or($from.$field.clone()); )* };
}

impl QubitSpec {
    /// Fills in the defaults; returns the values of [`CYCLE_TIME_NAMES`] but for the code distance.
    ///
    /// # Errors
    /// A parameter that is missing, out of range, or of the other kind of qubit.
    pub(super) fn complete(&mut self) -> Result<(Qubit, [f64; 4])> {
        let majorana = self.fill_predefined()?;
        self.check_instruction_set(majorana)?;
        let measurement_time = self.one_qubit_measurement_time.clone();
        let measurement_time = measurement_time.ok_or_else(|| missing("oneQubitMeasurementTime"))?;
        let measured = self.one_qubit_measurement_error_rate.ok_or_else(|| missing("oneQubitMeasurementErrorRate"))?;
        let t_error_rate = self.t_gate_error_rate.ok_or_else(|| missing("tGateErrorRate"))?;
        let one = measured.process_and_readout();
        check_measurement("oneQubitMeasurementErrorRate", one)?;
        self.idle_error_rate.get_or_insert(one.readout);
        let (clifford_error_rate, readout) = match majorana {
            true => self.complete_majorana(one, measurement_time)?,
            false => self.complete_gate_based(measured)?,
        };
        let idle = rate("qubitParams.idleErrorRate", self.idle_error_rate.unwrap_or(f64::NAN))?;
        let clifford_error_rate = clifford_error_rate.max(idle);
        let (t_time, times) = self.complete_times()?;
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

    /// Finds the instruction set and takes absent fields from the predefined qubit of the name; returns whether the
    /// qubit is a Majorana qubit.
    fn fill_predefined(&mut self) -> Result<bool> {
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
                let given = format!("{:?}", clip(s));
                return Err(out_of_range("qubitParams.instructionSet", given, "GateBased or Majorana"));
            }
        };
        if let Some(q) = known.filter(|q| (q.instruction_set.as_deref() == Some("Majorana")) == majorana) {
            fill_absent!(self, q, one_qubit_measurement_time one_qubit_gate_time two_qubit_gate_time
                two_qubit_joint_measurement_time t_gate_time one_qubit_measurement_error_rate
                two_qubit_joint_measurement_error_rate one_qubit_gate_error_rate two_qubit_gate_error_rate
                t_gate_error_rate idle_error_rate);
        }
        Ok(majorana)
    }

    /// Refuses parameters of operations that the qubit does not have.
    fn check_instruction_set(&self, majorana: bool) -> Result<()> {
        let of_one_kind = [
            ("oneQubitGateTime", self.one_qubit_gate_time.is_some(), false),
            ("twoQubitGateTime", self.two_qubit_gate_time.is_some(), false),
            ("oneQubitGateErrorRate", self.one_qubit_gate_error_rate.is_some(), false),
            ("twoQubitGateErrorRate", self.two_qubit_gate_error_rate.is_some(), false),
            ("twoQubitJointMeasurementTime", self.two_qubit_joint_measurement_time.is_some(), true),
            ("twoQubitJointMeasurementErrorRate", self.two_qubit_joint_measurement_error_rate.is_some(), true),
        ];
        let foreign = of_one_kind.iter().find(|(_, given, of_majorana)| *given && *of_majorana != majorana);
        foreign.map_or(Ok(()), |(key, ..)| {
            let kind = if majorana { "Majorana" } else { "gate-based" };
            Err(EstimateError::params(format!("qubitParams.{key}: {kind} qubits have none; leave it out")))
        })
    }

    /// Fills in the parameters of measurements; returns the error rates without and with readout.
    fn complete_majorana(&mut self, one: MeasurementError, measurement_time: String) -> Result<(f64, f64)> {
        self.two_qubit_joint_measurement_time.get_or_insert_with(|| measurement_time.clone());
        self.t_gate_time.get_or_insert(measurement_time);
        let same = MeasurementError { process: one.readout, readout: one.readout };
        let two = self.two_qubit_joint_measurement_error_rate.map_or(same, NumberOr::process_and_readout);
        check_measurement("twoQubitJointMeasurementErrorRate", two)?;
        self.one_qubit_measurement_error_rate = Some(NumberOr::Parts(one));
        self.two_qubit_joint_measurement_error_rate = Some(NumberOr::Parts(two));
        Ok((one.process.max(two.process), one.readout.max(two.readout)))
    }

    /// Fills in the parameters of gates; returns the error rates without and with readout.
    fn complete_gate_based(&mut self, measured: NumberOr<MeasurementError>) -> Result<(f64, f64)> {
        let NumberOr::Number(readout) = measured else {
            let key = "qubitParams.oneQubitMeasurementErrorRate";
            return Err(EstimateError::params(format!("{key}: of a gate-based qubit it is one number")));
        };
        let gate = self.one_qubit_gate_time.clone().ok_or_else(|| missing("oneQubitGateTime"))?;
        let gate_error = self.one_qubit_gate_error_rate.ok_or_else(|| missing("oneQubitGateErrorRate"))?;
        self.two_qubit_gate_time.get_or_insert_with(|| gate.clone());
        self.t_gate_time.get_or_insert(gate);
        let two = *self.two_qubit_gate_error_rate.get_or_insert(gate_error);
        let one = rate("qubitParams.oneQubitGateErrorRate", gate_error)?;
        Ok((one.max(rate("qubitParams.twoQubitGateErrorRate", two)?), readout))
    }

    /// Writes all times in nanoseconds; returns that of a T gate and those of [`CYCLE_TIME_NAMES`], 0 where there is
    /// none.
    fn complete_times(&mut self) -> Result<(u64, [f64; 4])> {
        let time = |key: &str, text: &mut Option<String>| -> Result<u64> {
            let Some(given) = text.as_deref() else { return Ok(0) };
            let ns = nanoseconds(&format!("qubitParams.{key}"), given, MAX_TIME)?;
            *text = Some(format!("{ns} ns"));
            Ok(ns)
        };
        let t_time = time("tGateTime", &mut self.t_gate_time)?;
        let times = [
            time(CYCLE_TIME_NAMES[1], &mut self.one_qubit_measurement_time)? as f64,
            time(CYCLE_TIME_NAMES[2], &mut self.one_qubit_gate_time)? as f64,
            time(CYCLE_TIME_NAMES[3], &mut self.two_qubit_gate_time)? as f64,
            time(CYCLE_TIME_NAMES[4], &mut self.two_qubit_joint_measurement_time)? as f64,
        ];
        Ok((t_time, times))
    }
}

fn missing(key: &str) -> EstimateError {
    EstimateError::params(format!("qubitParams.{key} is missing"))
}

fn check_measurement(key: &str, m: MeasurementError) -> Result<()> {
    rate(&format!("qubitParams.{key}.process"), m.process)?;
    rate(&format!("qubitParams.{key}.readout"), m.readout).map(drop)
}
