//! No input makes the estimator panic, or think for long.

use proptest::prelude::*;
use qmk_estimate::{JobParams, LogicalCounts, estimate, parse_counts};
use serde_json::{Value, json};

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(0)),
        Just(json!(1)),
        Just(json!(u64::MAX)),
        Just(json!(-1)),
        Just(json!(1e308)),
        Just(json!(5e-324)),
        (-320.0..10.0f64).prop_map(|x| json!(10f64.powf(x))),
        (-6.0..0.0f64).prop_map(|x| json!(10f64.powf(x))),
        (1u64..100).prop_map(|x| json!(x)),
    ]
}

fn formula() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[ ()*+^/%,.0-9a-z-]{0,20}".prop_map(Value::from),
        Just(json!("codeDistance ^ 9")),
        Just(json!("1 / (codeDistance - 7)")),
        Just(json!("codeDistance * oneQubitMeasurementTime")),
        Just(json!("2 * codeDistance")),
        Just(json!("1e300 * 1e300 - 1e300 * 1e300")),
    ]
}

fn time() -> impl Strategy<Value = Value> {
    prop_oneof![
        ((-3.0..15.0f64), prop_oneof![Just("ns"), Just("us"), Just(" ms"), Just(" s"), Just("h")])
            .prop_map(|(x, unit)| json!(format!("{}{unit}", 10f64.powf(x)))),
        ".{0,5}".prop_map(Value::from),
    ]
}

/// An object with some of these members.
fn some(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let each =
        members.into_iter().map(|(key, value)| proptest::option::weighted(0.3, value.prop_map(move |v| (key, v))));
    each.collect::<Vec<_>>().prop_map(|m| m.into_iter().flatten().collect()).boxed()
}

fn params() -> impl Strategy<Value = Value> {
    let one_of = |names: &'static [&'static str]| proptest::sample::select(names).prop_map(|n| json!(n)).boxed();
    let qubits =
        &["qubit_gate_ns_e3", "qubit_gate_ns_e4", "qubit_gate_us_e3", "qubit_maj_ns_e4", "qubit_maj_ns_e6", "mine"];
    let qubit = some(vec![
        ("name", one_of(qubits)),
        ("instructionSet", one_of(&["GateBased", "Majorana"])),
        ("oneQubitMeasurementTime", time().boxed()),
        ("tGateTime", time().boxed()),
        ("oneQubitMeasurementErrorRate", number().boxed()),
        ("tGateErrorRate", number().boxed()),
        ("idleErrorRate", number().boxed()),
    ]);
    let scheme = some(vec![
        ("name", one_of(&["surface_code", "floquet_code", "mine"])),
        ("errorCorrectionThreshold", number().boxed()),
        ("crossingPrefactor", number().boxed()),
        ("distanceCoefficientPower", number().boxed()),
        ("logicalCycleTime", formula().boxed()),
        ("physicalQubitsPerLogicalQubit", formula().boxed()),
        ("maxCodeDistance", number().boxed()),
    ]);
    let budget =
        some(vec![("logical", number().boxed()), ("tStates", number().boxed()), ("rotations", number().boxed())]);
    let constraints = some(vec![
        ("logicalDepthFactor", number().boxed()),
        ("maxTFactories", number().boxed()),
        ("maxDuration", time().boxed()),
        ("maxPhysicalQubits", number().boxed()),
        ("maxDistillationRounds", number().boxed()),
    ]);
    some(vec![
        ("qubitParams", qubit),
        ("qecScheme", scheme),
        ("errorBudget", prop_oneof![3 => number().boxed(), 1 => budget].boxed()),
        ("constraints", constraints),
    ])
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 0u64..1000, (0.0..16.0f64).prop_map(|x| 10f64.powf(x) as u64), any::<u64>()]
}

fn counts() -> impl Strategy<Value = LogicalCounts> {
    (count(), count(), count(), count(), count(), count(), count()).prop_map(|(q, t, r, d, ccz, ccix, m)| {
        LogicalCounts {
            num_qubits: q,
            t_count: t,
            rotation_count: r,
            rotation_depth: d.min(r),
            ccz_count: ccz,
            ccix_count: ccix,
            measurement_count: m,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_machines_never_panic(counts in counts(), params in params()) {
        if let Ok(params) = JobParams::parse(&params.to_string())
            && let Ok(e) = estimate(&counts, &params)
        {
            let b = &e.physical_counts.breakdown;
            prop_assert!(e.physical_counts.physical_qubits >= b.physical_qubits_for_algorithm);
            prop_assert!(e.logical_qubit.logical_error_rate <= b.required_logical_qubit_error_rate * 1.001);
            serde_json::from_str::<Value>(&e.to_json()).unwrap();
        }
    }

    #[test]
    fn random_text_never_panics(text in ".{0,200}") {
        _ = JobParams::parse(&text);
        _ = parse_counts(&text);
    }
}

#[test]
fn the_longest_search_ends() {
    let counts = LogicalCounts { num_qubits: 100_000, t_count: 1_000_000_000_000, ..LogicalCounts::default() };
    let mut solved = 0;
    for budget in [1e-3, 1e-9, 1e-15, 1e-21, 1e-27] {
        for constraints in [json!({}), json!({"maxTFactories": 1}), json!({"maxPhysicalQubits": 1_000_000_000_000u64})]
        {
            for t in [0.02, 0.06, 0.0666] {
                let params = json!({
                    "qubitParams": {"name": "qubit_maj_ns_e4", "tGateErrorRate": t},
                    "qecScheme": {"maxCodeDistance": 99},
                    "errorBudget": budget,
                    "constraints": constraints,
                });
                solved += usize::from(estimate(&counts, &JobParams::parse(&params.to_string()).unwrap()).is_ok());
            }
        }
    }
    assert_eq!(solved, 26, "of 45 searches");
}
