//! All amplitudes of a small state, straight from what it stands for: `U F R (|φ> ⊗ |0…0>)`.

use super::backend::Frame;
use super::frame_state::FrameState;
use super::shot::{BitFrame, Shot};
use crate::register::mask::Mask;
use num_complex::Complex64;
use qmk_abi::image::Pauli;
use std::f64::consts::SQRT_2;

/// The 2^n amplitudes, bit q of an index being qubit q; up to a global phase.
pub(super) fn amplitudes(mut frame_state: FrameState<BitFrame>, mut shot: Shot) -> Vec<Complex64> {
    let n = frame_state.qubits();
    frame_state.allow_active(n as u32);
    frame_state.perform_deferred(&mut shot).expect("as many active qubits as there are qubits");
    shot.flush();
    let (frame, active) = (frame_state.frame().clone(), frame_state.active().to_vec());
    let stabilizers: Vec<Mask> = (0..n).map(|v| push_forward(&mut frame_state, Pauli::Z, v)).collect();
    let mut ground = ground_state(n, &stabilizers);
    for v in (0..n).filter(|&v| frame.x(v)) {
        ground = apply(&ground, push_forward(&mut frame_state, Pauli::X, v));
    }
    let flips: Vec<Mask> = active.iter().map(|&v| push_forward(&mut frame_state, Pauli::X, v as usize)).collect();
    let mut psi = vec![Complex64::default(); 1 << n];
    for (b, amp) in shot.register.amplitudes(0).iter().enumerate() {
        let mut term = ground.clone();
        let mut sign = 1.0;
        for (i, &f) in flips.iter().enumerate() {
            if b >> i & 1 == 1 {
                term = apply(&term, f);
                sign *= if frame.z(active[i] as usize) { -1.0 } else { 1.0 };
            }
        }
        psi.iter_mut().zip(term).for_each(|(p, t)| *p += amp * t * sign);
    }
    psi
}

/// `U P_v U†` for P X or Z on a virtual qubit, as a mask over physical qubits.
fn push_forward(frame_state: &mut FrameState<BitFrame>, pauli: Pauli, v: usize) -> Mask {
    let mut m = Mask { x: 0, z: 0, negative: false };
    let mut factors = Vec::new();
    for q in 0..frame_state.qubits() {
        let mut anti = |row: Pauli| {
            let s = frame_state.pull_back(&[(row, q)]);
            if pauli == Pauli::Z { s.x(v) } else { s.z(v) }
        };
        let (x, z) = (anti(Pauli::Z), anti(Pauli::X));
        m.x |= (x as u64) << q;
        m.z |= (z as u64) << q;
        match (x, z) {
            (true, true) => factors.push((Pauli::Y, q)),
            (true, false) => factors.push((Pauli::X, q)),
            (false, true) => factors.push((Pauli::Z, q)),
            _ => {}
        }
    }
    m.negative = frame_state.pull_back(&factors).negative;
    m
}

/// `P v`.
fn apply(v: &[Complex64], p: Mask) -> Vec<Complex64> {
    let mut out = vec![Complex64::default(); v.len()];
    for (b, a) in v.iter().enumerate() {
        out[b ^ p.x as usize] += p.phase(b as u64) * a;
    }
    out
}

/// The state that n independent commuting strings stabilize: some basis state, projected on their +1 eigenspaces.
fn ground_state(n: usize, stabilizers: &[Mask]) -> Vec<Complex64> {
    let project = |b: usize| {
        let mut v = vec![Complex64::default(); 1 << n];
        v[b] = Complex64::new(1.0, 0.0);
        for &s in stabilizers {
            let sv = apply(&v, s);
            v.iter_mut().zip(sv).for_each(|(a, b)| *a = (*a + b) / SQRT_2);
        }
        let norm: f64 = v.iter().map(Complex64::norm_sqr).sum();
        (norm > 1e-9).then(|| v.into_iter().map(|a| a / norm.sqrt()).collect())
    };
    (0..1usize << n).find_map(project).expect("a stabilizer state overlaps some basis state")
}
