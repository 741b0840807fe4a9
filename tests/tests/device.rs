//! The simulated machine against the dense reference, on random programs over the full operation set.

mod common;

use common::{Calibration, Dice, apply, random_op};
use qmk_abi::image::Op;
use qmk_abi::syscall::{Code, Patch};
use qmk_hal::Device;
use qmk_qvm::Profile;
use qmk_sim::rng::{DrawSite, Random};
use qmk_sim::{SimDevice, State};
use qmk_testkit::dense::Dense;

#[test]
fn two_thousand_random_programs_match_amplitude_by_amplitude() {
    let mut seen = Calibration::default();
    for case in 0..2000u64 {
        let mut dice = Dice(case, 0);
        let n = 1 + dice.below(8);
        let mut state = State::new(n as usize, case, case % 100, 12);
        let mut dense = Dense::new(n as usize);
        let mut last = false;
        for at in 0..10 + dice.below(40) as u32 {
            let op = random_op(&mut dice, n);
            let draws = |draw| (Random { seed: case }, DrawSite { at, draw }, case % 100);
            // A third of the operations is guarded by the last outcome.
            if dice.below(3) == 0 {
                let wanted = dice.below(2) == 1;
                if let (Op::Pauli(p, q), true) = (op, last == wanted) {
                    state.frame_pauli(p, q as usize);
                    apply(&mut dense, &op, &[], &|| state.amplitudes(), &mut seen, &draws);
                    continue;
                }
                if last != wanted {
                    continue;
                }
            }
            let mut outcomes = Vec::new();
            state.perform(&op, at, |b| outcomes.push(b)).expect("twelve active qubits suffice for eight");
            last = outcomes.last().copied().unwrap_or(last);
            apply(&mut dense, &op, &outcomes, &|| state.amplitudes(), &mut seen, &draws);
            let fidelity = dense.fidelity(&state.amplitudes());
            assert!((fidelity - 1.0).abs() < 1e-9, "case {case}: fidelity {fidelity} after {op:?} at {at}");
        }
    }
    seen.check(1000.0);
}

#[test]
fn patches_are_as_large_as_profiles_say() {
    let device = SimDevice::default();
    let names = ["surface_code", "bacon_shor", "shyps", "floquet"];
    for (code, name) in [Code::Surface, Code::BaconShor, Code::Shyps, Code::Floquet].into_iter().zip(names) {
        for distance in 0..=120 {
            let size = device.physical_qubits(Patch { code, distance }).map(u64::from);
            match Profile::parse(&format!("logical:{name}(d={distance})")) {
                Ok(profile) => assert_eq!(size, Some(profile.physical_per_logical()), "{name} {distance}"),
                Err(_) => assert!(size.is_none() || distance == 101, "{name} {distance}"),
            }
        }
    }
}
