//! Patches that are decoded while they live, against whole memories.

use qmk_abi::image::Pauli;
use qmk_qec::codes::{Code, RotatedSurface, by_name};
use qmk_qec::decoder::matching::Matching;
use qmk_qec::experiment::memory::Memory;
use qmk_qec::machine::logical_error_sampler::LogicalErrorSampler;
use qmk_qec::machine::patch_sampler::PatchSampler;
use qmk_qec::noise::NoiseModel;

/// ln(1 - 2P) of a memory of so many rounds, and its standard deviation.
fn decay(code: &dyn Code, noise: &NoiseModel, basis: Pauli, rounds: u32, shots: u64) -> (f64, f64) {
    let memory = Memory::new(&noise.apply(&code.memory(basis, rounds))).unwrap();
    let tally = memory.run(&Matching::new(memory.model()).unwrap(), (3, 0, shots), 2, &|_| true);
    log_decay(tally.failures, shots)
}

fn log_decay(failures: u64, shots: u64) -> (f64, f64) {
    let p = failures as f64 / shots as f64;
    let sigma = (p * (1.0 - p) / shots as f64).sqrt();
    ((1.0 - 2.0 * p).ln(), 2.0 * sigma / (1.0 - 2.0 * p))
}

#[test]
fn a_patch_fails_as_often_as_a_long_memory_does_per_round() {
    for (name, d, p, shots) in [
        ("surface_code", 3, 5e-3, 60_000),
        ("surface_code", 3, 1e-2, 20_000),
        ("surface_code", 5, 5e-3, 20_000),
        ("bacon_shor", 3, 3e-3, 40_000),
    ] {
        let code = by_name(name, d).unwrap();
        let code = code.as_ref();
        let noise = NoiseModel::named("uniform", p).unwrap();
        let sampler = PatchSampler::new(code, d, &noise).unwrap();
        let lives = |cycles: u32| {
            let mut failures = [0u64; 2];
            let mut out = Vec::new();
            for shot in 0..shots {
                out.clear();
                sampler.sample(7, shot, cycles, cycles, &mut out);
                for (half, failures) in failures.iter_mut().enumerate() {
                    *failures += out.iter().fold(false, |p, f| p ^ f[half]) as u64;
                }
            }
            failures.map(|f| log_decay(f, shots))
        };
        // Long and short lives err at one rate.
        let (long, short) = (lives(7), lives(1));
        for (half, basis) in [Pauli::Z, Pauli::X].into_iter().enumerate() {
            let whole = |cycles| decay(code, &noise, basis, cycles * d, 2 * shots);
            let (whole_long, whole_short) = (whole(7), whole(2));
            let (bulk, sigma) = ((whole_long.0 - whole_short.0) / 5.0, whole_long.1.hypot(whole_short.1) / 5.0);
            // Sixteen comparisons at 6e-5 each, beyond what a beginning and an end may add: a twentieth of a cycle.
            for (lives, cycles) in [(&long, 7.0), (&short, 1.0)] {
                let (decay, wrong) = (lives[half].0 / cycles, lives[half].1 / cycles);
                let z = ((decay - bulk).abs() - 0.05 / cycles * bulk.abs()).max(0.0) / wrong.hypot(sigma);
                assert!(z < 4.0, "{name} d = {d}, p = {p}, {basis:?}, {cycles} cycles: {decay} and {bulk}, z = {z:.2}");
            }
        }
    }
}

#[test]
fn a_life_is_a_function_of_seed_shot_and_stream() {
    let code = RotatedSurface::new(3).unwrap();
    let sampler = PatchSampler::new(&code, 3, &NoiseModel::named("uniform", 0.01).unwrap()).unwrap();
    let life = |seed, shot, stream, cycles| {
        let mut out = Vec::new();
        sampler.sample(seed, shot, stream, cycles, &mut out);
        assert_eq!(out.len(), cycles as usize);
        out
    };
    assert!(life(1, 2, 3, 0).is_empty());
    assert_eq!(life(1, 2, 3, 200), life(1, 2, 3, 200));
    for other in [life(2, 2, 3, 200), life(1, 3, 3, 200), life(1, 2, 4, 200)] {
        assert_ne!(life(1, 2, 3, 200), other);
    }
    // Without errors nothing happens.
    let clean = PatchSampler::new(&code, 3, &NoiseModel::NONE).unwrap();
    let mut out = Vec::new();
    clean.sample(1, 0, 0, 9, &mut out);
    assert_eq!(out, vec![[false; 2]; 9]);
}

#[test]
fn patches_out_of_range_are_refused() {
    use qmk_abi::syscall::Code;
    let refused = |code, d, p| qmk_qec::machine::patch_sampler::sampler(code, d, p).err().unwrap().to_string();
    assert!(refused(Code::Surface, 17, 1e-3).contains("between 2 and 9"));
    assert!(refused(Code::Surface, 3, 0.6).contains("between 0 and 0.5"));
    assert!(refused(Code::Shyps, 4, 1e-3).contains("surface_code, bacon_shor"));
    assert!(qmk_qec::machine::patch_sampler::sampler(Code::BaconShor, 3, 1e-3).is_ok());
}
