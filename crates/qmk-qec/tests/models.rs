//! Circuits and detector error models against Stim's.

use qmk_abi::image::Pauli;
use qmk_qec::codes::Code;
use qmk_qec::codes::surface::RotatedSurface;
use qmk_qec::dem::DetectorErrorModel;
use qmk_qec::noise::{MODELS, NoiseModel};
use qmk_qec::stim;
use std::collections::BTreeMap;

/// Stim 1.16: `Circuit.generated("surface_code:rotated_memory_z", distance=3, rounds=3)` with all four parameters 0.005, and the model that
/// it makes of it; the same for x.
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
