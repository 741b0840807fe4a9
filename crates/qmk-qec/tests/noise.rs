//! Noise models: where their errors are, and what is refused.

use qmk_abi::image::Pauli;
use qmk_qec::circuit::{Circuit, Step};
use qmk_qec::codes::Code;
use qmk_qec::codes::surface::RotatedSurface;
use qmk_qec::dem::DetectorErrorModel;
use qmk_qec::noise::{MODELS, NoiseModel, Relaxation};

/// Total probability of one-qubit Pauli errors, of two-qubit ones, and of wrong records in one round in the bulk of d =
/// 3.
fn totals(model: &NoiseModel) -> [f64; 3] {
    let sum = |rounds| {
        let circuit = model.apply(&RotatedSurface::new(3).unwrap().memory(Pauli::Z, rounds));
        let mut sums = [0.0; 3];
        for step in circuit.steps() {
            match step {
                Step::Pauli1(_, p) => sums[0] += p.iter().sum::<f64>(),
                Step::Pauli2(_, p) => sums[1] += p.iter().sum::<f64>(),
                Step::Measure(_, _, p) => sums[2] += p,
                _ => {}
            }
        }
        sums
    };
    let (four, three) = (sum(4), sum(3));
    std::array::from_fn(|i| four[i] - three[i])
}

#[test]
fn models_put_their_errors_where_their_papers_say() {
    // Of a round of d = 3: 8 resets, 8 Hadamards, 24 CNOTs, 8 measurements; 9 data qubits.
    let p = 1e-3;
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    let check = |name: &str, one: f64, two: f64, records: f64| {
        let [a, b, c] = totals(&NoiseModel::named(name, p).unwrap());
        near(a, one * p);
        near(b, two * p);
        near(c, records * p);
    };
    // Waiting in the eight layers of a round: data in the reset, both Hadamard layers and the readout (36), ancillas of
    // Z in both Hadamard layers (8), and in four layers of six CNOTs 5 of 17 (20).
    check("uniform", 8.0 + 8.0 + 8.0 + 9.0, 24.0, 0.0);
    check("sd6", 8.0 + 8.0 + 8.0 + 64.0, 24.0, 0.0);
    // Data wait for readout twice a round.
    check("si1000", 2.0 * 8.0 + 0.1 * 8.0 + 0.1 * 64.0 + 2.0 * 18.0, 24.0, 5.0 * 8.0);
    check("phenomenological", 9.0, 0.0, 8.0);
    check("code_capacity", 9.0, 0.0, 0.0);
    check("biased", 8.0 + 8.0 + 8.0 + 9.0, 24.0, 0.0);
}

#[test]
fn bias_weighs_z_against_x_and_y() {
    let mut model = NoiseModel { gate1: 0.03, gate2: 0.1, bias: 10.0, ..NoiseModel::NONE };
    let circuit = RotatedSurface::new(3).unwrap().memory(Pauli::Z, 1);
    for step in model.apply(&circuit).steps() {
        match step {
            Step::Pauli1(_, [x, y, z]) => {
                assert_eq!(x, y);
                assert!((z / (x + y) - 10.0).abs() < 1e-9);
            }
            // XI against ZI, and XZ against ZZ.
            Step::Pauli2(_, p) => {
                assert!((p[11] / p[3] - 20.0).abs() < 1e-9);
                assert!((p[14] / p[6] - 20.0).abs() < 1e-9);
            }
            _ => {}
        }
    }
    // Where bias says nothing, both are depolarizing.
    model.bias = 0.5;
    assert!(model.apply(&circuit).steps().iter().all(|s| !matches!(s, Step::Pauli2(_, p) if *p != [0.1 / 15.0; 15])));
}

#[test]
fn relaxation_is_the_twirl_of_its_channel() {
    let r = Relaxation { t1: 50.0, t2: 70.0, gate1: 25.0, gate2: 50.0, readout: 500.0 };
    let t = 500.0;
    let [x, y, z] = r.twirl(t);
    // A twirled channel keeps the diagonal of its transfer matrix: coherence e^(-t/T2), inversion e^(-t/T1).
    let us = t / 1000.0;
    assert!((1.0 - 2.0 * (y + z) - (-us / r.t2).exp()).abs() < 1e-12);
    assert!((1.0 - 2.0 * (x + y) - (-us / r.t1).exp()).abs() < 1e-12);
    assert_eq!(x, y);
}

#[test]
fn correlated_channels_become_independent_errors() {
    // One channel whose parts all end in different detectors: the model's mechanisms are the errors themselves.
    let depolarized = |p: f64| {
        let mut c = Circuit::new();
        (0..4).for_each(|q| c.push(Step::Reset(Pauli::Z, q)));
        // A Bell pair of 0, 1 sees X and Z parts of errors on 0; alone a qubit sees one of them.
        for (a, b) in [(0, 1), (2, 3)] {
            let xx = c.measure_pair(Pauli::X, [a, b]);
            c.push(Step::Pauli1(a, [p / 3.0; 3]));
            let again = c.measure_pair(Pauli::X, [a, b]);
            c.push(Step::Detector(vec![xx, again], [0.0; 3]));
            let zz = c.measure_pair(Pauli::Z, [a, b]);
            c.push(Step::Detector(vec![zz], [0.0; 3]));
        }
        DetectorErrorModel::of(&c).unwrap()
    };
    let p: f64 = 0.12;
    // Stim's DEPOLARIZE1: three errors of probability (1 - sqrt(1 - 4p/3)) / 2.
    let each = (1.0 - (1.0 - 4.0 * p / 3.0).sqrt()) / 2.0;
    let model = depolarized(p);
    assert_eq!(model.mechanisms.len(), 6);
    assert!(model.mechanisms.iter().all(|m| (m.p - each).abs() < 1e-12), "{model:?}");
}

#[test]
fn what_is_out_of_range_is_refused_with_the_range() {
    for name in MODELS {
        for p in [-1e-9, 0.76, f64::NAN, f64::INFINITY] {
            let e = NoiseModel::named(name, p).unwrap_err().to_string();
            assert!(e.contains("is not between 0 and 0."), "{e}");
        }
        NoiseModel::named(name, 0.0).unwrap();
    }
    assert!(NoiseModel::named("gaussian", 0.1).unwrap_err().to_string().contains("known: uniform, sd6"));
    for name in NoiseModel::PARAMETERS {
        let mut model = NoiseModel::NONE;
        model.set(name, -0.5).unwrap();
        let e = model.check().unwrap_err().to_string();
        assert!(e.contains("-0.5") && (e.contains("between") || e.contains("above")), "{name}: {e}");
    }
    let mut model = NoiseModel::NONE;
    model.set("t2", 300.0).unwrap();
    assert!(model.check().unwrap_err().to_string().contains("at most 2 t1 = 200 us"));
    assert!(model.set("t3", 1.0).unwrap_err().to_string().contains("known: gate1"));
    assert!(RotatedSurface::new(1).unwrap_err().to_string().contains("between 2 and 51"));
}
