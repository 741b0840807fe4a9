//! The report: figures under the names of the Azure Quantum Resource Estimator, and texts for people.

use crate::factory::Factory;
use crate::params::{Budget, JobParams, ReportedParams};
use qmk_abi::rpc::LogicalCounts;
use serde::Serialize;
use std::fmt::Write;

/// The physical resources of a program on a machine.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// Always `success`.
    pub(crate) status: &'static str,
    pub(crate) job_params: ReportedParams,
    /// The figures.
    pub physical_counts: PhysicalCounts,
    /// The figures for people.
    pub physical_counts_formatted: FormattedCounts,
    /// A logical qubit of the program.
    pub logical_qubit: LogicalQubit,
    /// A T factory, if the program needs T states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tfactory: Option<TFactory>,
    /// The parts of the error budget.
    pub error_budget: ErrorBudget,
    /// The logical counts of the program.
    pub logical_counts: LogicalCounts,
}

/// Physical resources.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhysicalCounts {
    /// Physical qubits, factories included.
    pub physical_qubits: u64,
    /// Nanoseconds.
    pub runtime: u64,
    /// Reliable quantum operations per second: logical qubits times logical cycles per second.
    pub rqops: u64,
    /// The contributions.
    pub breakdown: Breakdown,
}

/// Contributions to the physical resources.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Breakdown {
    /// Logical qubits after layout.
    pub algorithmic_logical_qubits: u64,
    /// Logical cycles of the program.
    pub algorithmic_logical_depth: u64,
    /// Logical cycles of the run, which may wait for T states.
    pub logical_depth: u64,
    /// T states.
    pub num_tstates: u64,
    /// Logical cycles per second.
    pub clock_frequency: f64,
    /// T factories that run side by side.
    pub num_tfactories: u64,
    /// Runs of each.
    pub num_tfactory_runs: u64,
    /// Physical qubits of all factories.
    pub physical_qubits_for_tfactories: u64,
    /// Physical qubits of the program's logical qubits.
    pub physical_qubits_for_algorithm: u64,
    /// Largest error rate of a logical qubit in a cycle.
    pub required_logical_qubit_error_rate: f64,
    /// Largest error rate of a T state.
    pub required_logical_tstate_error_rate: Option<f64>,
    /// T states of a rotation.
    pub num_ts_per_rotation: Option<u64>,
    /// Worst error rate of physical Clifford operations.
    pub clifford_error_rate: f64,
}

/// A logical qubit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogicalQubit {
    /// Code distance.
    pub code_distance: u64,
    /// Physical qubits.
    pub physical_qubits: u64,
    /// Nanoseconds.
    pub logical_cycle_time: u64,
    /// Probability to fail in a logical cycle.
    pub logical_error_rate: f64,
}

/// A T factory.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TFactory {
    /// Physical qubits: those of its largest round.
    pub physical_qubits: u64,
    /// Nanoseconds of a run.
    pub runtime: u64,
    /// T states that a run makes.
    pub num_tstates: u64,
    /// T states that go into a run.
    pub num_input_tstates: u64,
    /// Rounds of distillation.
    pub num_rounds: u64,
    /// Copies of its unit, for each round.
    pub num_units_per_round: Vec<u64>,
    /// Unit, for each round.
    pub unit_name_per_round: Vec<&'static str>,
    /// Code distance, for each round; 1 for physical qubits.
    pub code_distance_per_round: Vec<u64>,
    /// Physical qubits, for each round.
    pub physical_qubits_per_round: Vec<u64>,
    /// Nanoseconds, for each round.
    pub runtime_per_round: Vec<u64>,
    /// Error rate of the T states made.
    pub logical_error_rate: f64,
}

impl TFactory {
    pub(crate) fn new(f: &Factory) -> Self {
        TFactory {
            physical_qubits: f.physical_qubits,
            runtime: f.duration,
            num_tstates: Factory::OUTPUTS,
            num_input_tstates: f.inputs(),
            num_rounds: f.rounds.len() as u64,
            num_units_per_round: f.rounds.iter().map(|r| r.units).collect(),
            unit_name_per_round: f.rounds.iter().map(|r| r.name).collect(),
            code_distance_per_round: f.rounds.iter().map(|r| r.distance).collect(),
            physical_qubits_per_round: f.rounds.iter().map(|r| r.physical_qubits).collect(),
            runtime_per_round: f.rounds.iter().map(|r| r.duration).collect(),
            logical_error_rate: f.error_rate,
        }
    }
}

/// Probabilities of a wrong outcome, by cause.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBudget {
    /// Logical errors.
    pub logical: f64,
    /// Faulty T states.
    pub tstates: f64,
    /// Rotations that are only approximated.
    pub rotations: f64,
}

macro_rules! formatted_counts {
    ($($field:ident)*) => {
        /// The figures of a report for people.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase")]
        #[allow(missing_docs, reason = "each is the figure of its name, as text")]
        pub struct FormattedCounts { $(pub $field: String,)* }
    };
}

formatted_counts! {
    runtime rqops physical_qubits algorithmic_logical_qubits algorithmic_logical_depth logical_depth num_tstates
    num_tfactories num_tfactory_runs physical_qubits_for_algorithm physical_qubits_for_tfactories
    physical_qubits_for_tfactories_percentage required_logical_qubit_error_rate required_logical_tstate_error_rate
    physical_qubits_per_logical_qubit logical_cycle_time clock_frequency logical_error_rate tfactory_physical_qubits
    tfactory_runtime num_input_tstates num_units_per_round unit_name_per_round code_distance_per_round
    physical_qubits_per_round tfactory_runtime_per_round tstate_logical_error_rate logical_counts_num_qubits
    logical_counts_t_count logical_counts_rotation_count logical_counts_rotation_depth logical_counts_ccz_count
    logical_counts_ccix_count logical_counts_measurement_count error_budget error_budget_logical error_budget_tstates
    error_budget_rotations num_ts_per_rotation logical_depth_factor max_t_factories max_duration max_physical_qubits
}

/// A count with a metric prefix: `13.52k`.
fn metric(n: u64) -> String {
    if n < 1000 {
        return n.to_string();
    }
    let mut value = n as f64 / 1e3;
    let mut prefixes = "kMGTPE".chars();
    while value >= 1e3 {
        value /= 1e3;
        prefixes.next();
    }
    format!("{value:.2}{}", prefixes.next().unwrap_or('E'))
}

/// A time in the largest unit of which it is at least one.
fn duration(ns: u64) -> String {
    let mut unit = (1, "nanosecs");
    let factors = [
        (1000, "microsecs"),
        (1000, "millisecs"),
        (1000, "secs"),
        (60, "mins"),
        (60, "hours"),
        (24, "days"),
        (365, "years"),
    ];
    for (factor, name) in factors {
        if ns / unit.0 < factor {
            break;
        }
        unit = (unit.0 * factor, name);
    }
    format!("{} {}", (ns as u128 + unit.0 as u128 / 2) / unit.0 as u128, unit.1)
}

fn rate(x: f64) -> String {
    format!("{x:.2e}")
}

fn list<T>(values: &[T], show: impl Fn(&T) -> String) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(", ")
}

pub(crate) fn formatted(
    counts: &LogicalCounts,
    params: &JobParams,
    physical: &PhysicalCounts,
    qubit: &LogicalQubit,
    factory: Option<&TFactory>,
    budget: &ErrorBudget,
) -> FormattedCounts {
    let b = &physical.breakdown;
    let of_factory = |show: &dyn Fn(&TFactory) -> String| factory.map_or("No T states in algorithm".into(), show);
    let given = |value: Option<String>| value.unwrap_or_else(|| "constraint not set".into());
    let constraints = &params.constraints;
    let total = match params.budget {
        Budget::Total(total) => total,
        Budget::Parts { logical, t_states, rotations } => logical + t_states + rotations,
    };
    let percentage = b.physical_qubits_for_tfactories as f64 * 100.0 / physical.physical_qubits as f64;
    FormattedCounts {
        runtime: duration(physical.runtime),
        rqops: metric(physical.rqops),
        physical_qubits: metric(physical.physical_qubits),
        algorithmic_logical_qubits: metric(b.algorithmic_logical_qubits),
        algorithmic_logical_depth: metric(b.algorithmic_logical_depth),
        logical_depth: metric(b.logical_depth),
        num_tstates: metric(b.num_tstates),
        num_tfactories: metric(b.num_tfactories),
        num_tfactory_runs: metric(b.num_tfactory_runs),
        physical_qubits_for_algorithm: metric(b.physical_qubits_for_algorithm),
        physical_qubits_for_tfactories: metric(b.physical_qubits_for_tfactories),
        physical_qubits_for_tfactories_percentage: format!("{percentage:.2} %"),
        required_logical_qubit_error_rate: rate(b.required_logical_qubit_error_rate),
        required_logical_tstate_error_rate: of_factory(&|_| rate(b.required_logical_tstate_error_rate.unwrap_or(0.0))),
        physical_qubits_per_logical_qubit: metric(qubit.physical_qubits),
        logical_cycle_time: duration(qubit.logical_cycle_time),
        clock_frequency: metric(b.clock_frequency.round() as u64),
        logical_error_rate: rate(qubit.logical_error_rate),
        tfactory_physical_qubits: of_factory(&|f| metric(f.physical_qubits)),
        tfactory_runtime: of_factory(&|f| duration(f.runtime)),
        num_input_tstates: of_factory(&|f| metric(f.num_input_tstates)),
        num_units_per_round: of_factory(&|f| list(&f.num_units_per_round, u64::to_string)),
        unit_name_per_round: of_factory(&|f| f.unit_name_per_round.join(", ")),
        code_distance_per_round: of_factory(&|f| list(&f.code_distance_per_round, u64::to_string)),
        physical_qubits_per_round: of_factory(&|f| list(&f.physical_qubits_per_round, |n| metric(*n))),
        tfactory_runtime_per_round: of_factory(&|f| list(&f.runtime_per_round, |n| duration(*n))),
        tstate_logical_error_rate: of_factory(&|f| rate(f.logical_error_rate)),
        logical_counts_num_qubits: metric(counts.num_qubits),
        logical_counts_t_count: metric(counts.t_count),
        logical_counts_rotation_count: metric(counts.rotation_count),
        logical_counts_rotation_depth: metric(counts.rotation_depth),
        logical_counts_ccz_count: metric(counts.ccz_count),
        logical_counts_ccix_count: metric(counts.ccix_count),
        logical_counts_measurement_count: metric(counts.measurement_count),
        error_budget: rate(total),
        error_budget_logical: rate(budget.logical),
        error_budget_tstates: rate(budget.tstates),
        error_budget_rotations: rate(budget.rotations),
        num_ts_per_rotation: b.num_ts_per_rotation.map_or("No rotations in algorithm".into(), metric),
        logical_depth_factor: given(constraints.logical_depth_factor.map(|v| v.to_string())),
        max_t_factories: given(constraints.max_t_factories.map(|v| v.to_string())),
        max_duration: given(constraints.max_duration_ns.map(|v| v.to_string())),
        max_physical_qubits: given(constraints.max_physical_qubits.map(|v| v.to_string())),
    }
}

impl Estimate {
    /// The report as JSON text.
    pub fn to_json(&self) -> String {
        // All keys are strings and all numbers are finite, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The report as a table, in the groups of the estimator.
    pub fn table(&self) -> String {
        let f = &self.physical_counts_formatted;
        let (scheme, qubit) = self.job_params.names();
        let distance = self.logical_qubit.code_distance.to_string();
        let mut out = String::new();
        let mut group = |title: &str, rows: &[(&str, &str)]| {
            _ = writeln!(out, "{title}");
            rows.iter().for_each(|(label, value)| _ = writeln!(out, "  {label:<34}{value}"));
        };
        let resources: [(&str, &str); 3] = [
            ("Run time", &f.runtime),
            ("Reliable operations per second", &f.rqops),
            ("Physical qubits", &f.physical_qubits),
        ];
        group("Physical resources", &resources);
        let breakdown: [(&str, &str); 10] = [
            ("Logical qubits after layout", &f.algorithmic_logical_qubits),
            ("Logical cycles of the program", &f.algorithmic_logical_depth),
            ("Logical cycles of the run", &f.logical_depth),
            ("Logical cycles per second", &f.clock_frequency),
            ("T states", &f.num_tstates),
            ("T states of a rotation", &f.num_ts_per_rotation),
            ("T factories", &f.num_tfactories),
            ("Runs of each factory", &f.num_tfactory_runs),
            ("Physical qubits of the program", &f.physical_qubits_for_algorithm),
            ("Physical qubits of the factories", &f.physical_qubits_for_tfactories),
        ];
        group("Breakdown", &breakdown);
        let logical_qubit: [(&str, &str); 6] = [
            ("Code", scheme),
            ("Code distance", &distance),
            ("Physical qubits", &f.physical_qubits_per_logical_qubit),
            ("Logical cycle", &f.logical_cycle_time),
            ("Error rate, required", &f.required_logical_qubit_error_rate),
            ("Error rate, reached", &f.logical_error_rate),
        ];
        group("Logical qubit", &logical_qubit);
        let factory: [(&str, &str); 7] = [
            ("Physical qubits", &f.tfactory_physical_qubits),
            ("Run time", &f.tfactory_runtime),
            ("Units, by round", &f.num_units_per_round),
            ("Kind, by round", &f.unit_name_per_round),
            ("Code distance, by round", &f.code_distance_per_round),
            ("Error rate, required", &f.required_logical_tstate_error_rate),
            ("Error rate, reached", &f.tstate_logical_error_rate),
        ];
        if self.tfactory.is_some() {
            group("T factory", &factory);
        }
        let counts: [(&str, &str); 7] = [
            ("Qubits", &f.logical_counts_num_qubits),
            ("T gates", &f.logical_counts_t_count),
            ("Rotations", &f.logical_counts_rotation_count),
            ("Layers of rotations", &f.logical_counts_rotation_depth),
            ("CCZ gates", &f.logical_counts_ccz_count),
            ("CCiX gates", &f.logical_counts_ccix_count),
            ("Measurements", &f.logical_counts_measurement_count),
        ];
        group("Logical counts", &counts);
        let assumptions: [(&str, &str); 5] = [
            ("Physical qubit", qubit),
            ("Error budget", &f.error_budget),
            ("... logical errors", &f.error_budget_logical),
            ("... faulty T states", &f.error_budget_tstates),
            ("... rotations", &f.error_budget_rotations),
        ];
        group("Assumptions", &assumptions);
        out
    }
}
