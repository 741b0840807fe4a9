//! Circuits and detector error models against Stim's.

use qmk_abi::image::Pauli;
use qmk_qec::codes::Code;
use qmk_qec::codes::surface::RotatedSurface;
use qmk_qec::dem::DetectorErrorModel;
use qmk_qec::noise::{MODELS, NoiseModel};
use qmk_qec::stim;
use std::collections::BTreeMap;

/// Stim 1.16: `Circuit.generated("surface_code:rotated_memory_z", distance=3, rounds=3)` with all four parameters
/// 0.005, and the model that it makes of it; the same for x.
const STIM: [(Pauli, &str, &str); 2] = [
    (Pauli::Z, include_str!("data/surface_z.stim"), include_str!("data/surface_z.dem")),
    (Pauli::X, include_str!("data/surface_x.stim"), include_str!("data/surface_x.dem")),
];

/// Mechanisms by the places of their detectors, since numbers depend on the order of detectors.
fn by_place(model: &DetectorErrorModel) -> BTreeMap<(Vec<[i64; 3]>, u64), f64> {
    let place = |d: &u32| model.coordinates[*d as usize].map(|c| c as i64);
    let mechanism = |m: &qmk_qec::dem::Mechanism| {
        let mut places: Vec<_> = m.detectors.iter().map(place).collect();
        places.sort_unstable();
        ((places, m.observables), m.p)
    };
    model.mechanisms.iter().map(mechanism).collect()
}

fn assert_equal(a: &DetectorErrorModel, b: &DetectorErrorModel) {
    assert_eq!((a.detectors, a.observables), (b.detectors, b.observables));
    let (a, b) = (by_place(a), by_place(b));
    assert_eq!(a.len(), b.len());
    for (key, p) in &a {
        let q = b.get(key).unwrap_or_else(|| panic!("{key:?} is missing"));
        assert!((p - q).abs() < 1e-9 * p, "{key:?}: {p} {q}");
    }
}

#[test]
fn models_of_circuits_from_stim_are_those_of_stim() {
    for (_, circuit, model) in STIM {
        let ours = DetectorErrorModel::of(&stim::import(circuit).unwrap()).unwrap();
        assert_equal(&ours, &stim::import_model(model).unwrap());
    }
}

#[test]
fn our_surface_code_is_the_one_of_stim() {
    for (basis, _, model) in STIM {
        let circuit = RotatedSurface::new(3).unwrap().memory(basis, 3);
        let noisy = NoiseModel::named("uniform", 0.005).unwrap().apply(&circuit);
        assert_equal(&DetectorErrorModel::of(&noisy).unwrap(), &stim::import_model(model).unwrap());
    }
}

#[test]
fn what_is_written_reads_back() {
    for name in MODELS {
        let circuit = RotatedSurface::new(3).unwrap().memory(Pauli::X, 2);
        let noisy = NoiseModel::named(name, 0.01).unwrap().apply(&circuit);
        let text = stim::export(&noisy);
        let back = stim::import(&text).unwrap();
        assert_eq!(stim::export(&back), text.replace("# round\n", ""));
        let model = DetectorErrorModel::of(&noisy).unwrap();
        assert_equal(&model, &DetectorErrorModel::of(&back).unwrap());
        assert_equal(&model, &stim::import_model(&stim::export_model(&model)).unwrap());
    }
}

#[test]
fn the_exported_circuit_has_the_distance_of_the_code() {
    for d in [2, 3, 4, 5, 7, 9] {
        for basis in [Pauli::Z, Pauli::X] {
            let circuit = RotatedSurface::new(d).unwrap().memory(basis, d);
            let noisy = NoiseModel::named("uniform", 1e-3).unwrap().apply(&circuit);
            let exported = stim::import(&stim::export(&noisy)).unwrap();
            let model = DetectorErrorModel::of(&exported).unwrap();
            assert_eq!(qmk_qec::distance::graphlike_distance(&model), Some(d), "d = {d}, {basis:?}");
        }
    }
}

#[test]
fn malformed_text_is_refused_with_its_line() {
    let refused = |text: &str, why: &str| {
        let e = stim::import(text).unwrap_err().to_string();
        assert!(e.contains(why), "{text:?}: {e}");
    };
    refused("H 0\nFROB 1", "line 2: instruction \"FROB\" is not supported");
    refused("CX 0", "line 1: two-qubit operations take qubits in pairs");
    refused("CX 3 3", "qubit 3 is paired with itself");
    refused("H 4000000000", "qubit 4000000000 is not below");
    refused("H x", "\"x\" is not a qubit");
    refused("M 0\nDETECTOR rec[-2]", "line 2: rec[-2] names a record that is not there; there are 1");
    refused("DETECTOR rec[-0]", "names a record");
    refused("X_ERROR(1.5) 0", "not between 0 and 1");
    refused("X_ERROR(nan) 0", "not between 0 and 1");
    refused("DEPOLARIZE2(0.1", "parenthesis is not closed");
    refused("PAULI_CHANNEL_1(0.5,0.4,0.3) 0", "together");
    refused("OBSERVABLE_INCLUDE(64)", "0 to 63");
    refused("OBSERVABLE_INCLUDE(-1)", "0 to 63");
    refused("MPP X0*Z1", "product of at most two equal Paulis");
    refused("REPEAT 3 {", "not closed");
    refused("}", "closes no block");
    refused("REPEAT 1000000000000 {\nH 0\n}", "more than");
    refused("REPEAT 1000000000000 {\n}", "more than");
    refused("REPEAT 1000000000000 {\nREPEAT 1000000000000 {\nTICK\n}\n}", "more than");
    refused(&"REPEAT 1 {\n".repeat(1000), "deeper than 16");
    refused("MPP Xé*X1", "is not");
    let model = |text: &str, why: &str| {
        let e = stim::import_model(text).unwrap_err().to_string();
        assert!(e.contains(why), "{text:?}: {e}");
    };
    model("error(0.1) D99999999999", "not below");
    model("error(2) D0", "not between 0 and 1");
    model("shift_detectors 18446744073709551615\ndetector D5", "not below");
    model("error(0.1) L64", "L0 to L63");
    // What is random without noise is no detector.
    let random = stim::import("R 0\nH 0\nM 0\nDETECTOR rec[-1]").unwrap();
    assert!(DetectorErrorModel::of(&random).unwrap_err().to_string().contains("detector 0 is random"));
}

#[test]
fn errors_of_which_one_happens_add_up() {
    // No product of independent errors: X or Y, each with probability 0.2, never both. Stim says 0.4.
    let circuit = stim::import("PAULI_CHANNEL_1(0.2,0.2,0) 0\nM 0\nDETECTOR rec[-1]").unwrap();
    let model = DetectorErrorModel::of(&circuit).unwrap();
    assert_eq!(model.mechanisms.len(), 1);
    assert!((model.mechanisms[0].p - 0.4).abs() < 1e-12, "{model:?}");
    // A small text cannot ask for a model of any size.
    let many = "REPEAT 20000 {\nX_ERROR(0.001) 0\n}\nM 0\nREPEAT 20000 {\nDETECTOR rec[-1]\n}";
    assert!(DetectorErrorModel::of(&stim::import(many).unwrap()).unwrap_err().to_string().contains("flip more than"));
}
