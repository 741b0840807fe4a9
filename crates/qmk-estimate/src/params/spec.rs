//! Job parameters as they are written: the shape of the JSON text.

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// The parameters as the report shows them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportedParams {
    pub(super) qec_scheme: SchemeSpec,
    pub(super) error_budget: NumberOr<BudgetParts>,
    pub(super) qubit_params: QubitSpec,
    pub(super) constraints: Constraints,
    pub(super) estimate_type: EstimateType,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Constraints {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) logical_depth_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_t_factories: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_duration: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_physical_qubits: Option<u64>,
    #[serde(default = "default_distillation_rounds")]
    pub(crate) max_distillation_rounds: u64,
    /// Nanoseconds.
    #[serde(skip)]
    pub(crate) max_duration_ns: Option<u64>,
}

fn default_distillation_rounds() -> u64 {
    3
}

impl Default for Constraints {
    fn default() -> Self {
        Constraints {
            logical_depth_factor: None,
            max_t_factories: None,
            max_duration: None,
            max_physical_qubits: None,
            max_distillation_rounds: default_distillation_rounds(),
            max_duration_ns: None,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SchemeSpec {
    pub(super) name: Option<String>,
    pub(super) error_correction_threshold: Option<f64>,
    pub(super) crossing_prefactor: Option<f64>,
    pub(super) distance_coefficient_power: Option<u32>,
    pub(super) logical_cycle_time: Option<String>,
    pub(super) physical_qubits_per_logical_qubit: Option<String>,
    pub(super) max_code_distance: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct QubitSpec {
    pub(super) instruction_set: Option<String>,
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) one_qubit_measurement_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) one_qubit_gate_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) two_qubit_gate_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) two_qubit_joint_measurement_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) t_gate_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) one_qubit_measurement_error_rate: Option<NumberOr<MeasurementError>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) two_qubit_joint_measurement_error_rate: Option<NumberOr<MeasurementError>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) one_qubit_gate_error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) two_qubit_gate_error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) t_gate_error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_error_rate: Option<f64>,
}

/// Error rates of a measurement: of the state that it leaves, and of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MeasurementError {
    pub(super) process: f64,
    pub(super) readout: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BudgetParts {
    pub(super) logical: f64,
    pub(super) t_states: f64,
    pub(super) rotations: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum EstimateType {
    #[default]
    SinglePoint,
    Frontier,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) qec_scheme: SchemeSpec,
    pub(super) error_budget: Option<NumberOr<BudgetParts>>,
    pub(super) qubit_params: Option<QubitSpec>,
    pub(super) constraints: Constraints,
    pub(super) estimate_type: EstimateType,
}

/// One number, or an object of several. Unlike an untagged enum, it reports the key of the object that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum NumberOr<T> {
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
    pub(super) fn process_and_readout(self) -> MeasurementError {
        match self {
            NumberOr::Number(x) => MeasurementError { process: x, readout: x },
            NumberOr::Parts(parts) => parts,
        }
    }
}

impl ReportedParams {
    /// Names of the code and of the qubit.
    pub(crate) fn names(&self) -> (&str, &str) {
        let qubit = self.qubit_params.name.as_deref().filter(|n| !n.is_empty()).unwrap_or("custom");
        (self.qec_scheme.name.as_deref().unwrap_or_default(), qubit)
    }
}
