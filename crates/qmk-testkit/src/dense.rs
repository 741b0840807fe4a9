//! A plain 2^n state-vector simulator, written for clarity: the independent reference for the physics.

use crate::rng::Rng;
use num_complex::Complex64;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Op, Pauli};
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

/// A 2×2 matrix, row by row.
pub type Gate = [[Complex64; 2]; 2];

/// Shorthand for a complex number.
pub fn c(re: f64, im: f64) -> Complex64 {
    Complex64::new(re, im)
}

/// One-qubit matrices from their textbook definitions.
pub mod gates {
    use super::{Complex64, Gate, c};
    use std::f64::consts::FRAC_1_SQRT_2 as R;

    const O: Complex64 = Complex64::new(0.0, 0.0);
    const I: Complex64 = Complex64::new(1.0, 0.0);

    /// Pauli X.
    pub const X: Gate = [[O, I], [I, O]];
    /// Pauli Y.
    pub const Y: Gate = [[O, Complex64::new(0.0, -1.0)], [Complex64::new(0.0, 1.0), O]];
    /// Pauli Z.
    pub const Z: Gate = [[I, O], [O, Complex64::new(-1.0, 0.0)]];
    /// Hadamard.
    pub const H: Gate =
        [[Complex64::new(R, 0.0), Complex64::new(R, 0.0)], [Complex64::new(R, 0.0), Complex64::new(-R, 0.0)]];

    /// diag(1, e^{iθ}).
    pub fn phase(theta: f64) -> Gate {
        [[I, O], [O, Complex64::from_polar(1.0, theta)]]
    }
    /// exp(-iθX/2).
    pub fn rx(theta: f64) -> Gate {
        let (s, k) = (theta / 2.0).sin_cos();
        [[c(k, 0.0), c(0.0, -s)], [c(0.0, -s), c(k, 0.0)]]
    }
    /// exp(-iθY/2).
    pub fn ry(theta: f64) -> Gate {
        let (s, k) = (theta / 2.0).sin_cos();
        [[c(k, 0.0), c(-s, 0.0)], [c(s, 0.0), c(k, 0.0)]]
    }
    /// exp(-iθZ/2).
    pub fn rz(theta: f64) -> Gate {
        [[Complex64::from_polar(1.0, -theta / 2.0), O], [O, Complex64::from_polar(1.0, theta / 2.0)]]
    }
}

/// The state of n qubits; bit q of an index is qubit q.
#[derive(Clone, Debug)]
pub struct Dense {
    /// Amplitudes, 2^n of them.
    pub amps: Vec<Complex64>,
}

impl Dense {
    /// |0…0>.
    pub fn new(n: usize) -> Self {
        let mut amps = vec![c(0.0, 0.0); 1 << n];
        amps[0] = c(1.0, 0.0);
        Dense { amps }
    }

    /// Amplitudes at random.
    pub fn random(n: usize, dice: &mut Rng) -> Self {
        let mut state = Dense { amps: (0..1 << n).map(|_| c(dice.unit() - 0.5, dice.unit() - 0.5)).collect() };
        state.normalise();
        state
    }

    fn normalise(&mut self) {
        let norm = self.amps.iter().map(Complex64::norm_sqr).sum::<f64>().sqrt();
        self.amps.iter_mut().for_each(|a| *a /= norm);
    }

    /// Applies a gate to `target` where every control is 1.
    pub fn apply(&mut self, gate: &Gate, controls: &[usize], target: usize) {
        let mask: usize = controls.iter().map(|q| 1 << q).sum();
        for b in 0..self.amps.len() {
            if b & mask == mask && b >> target & 1 == 0 {
                let (i, j) = (b, b | 1 << target);
                let (x, y) = (self.amps[i], self.amps[j]);
                self.amps[i] = gate[0][0] * x + gate[0][1] * y;
                self.amps[j] = gate[1][0] * x + gate[1][1] * y;
            }
        }
    }

    /// Exchanges two qubits.
    pub fn swap(&mut self, a: usize, b: usize) {
        for i in 0..self.amps.len() {
            if i >> a & 1 == 1 && i >> b & 1 == 0 {
                self.amps.swap(i, i ^ (1 << a | 1 << b));
            }
        }
    }

    /// Probability that qubit q is 1.
    pub fn probability_of_one(&self, q: usize) -> f64 {
        self.amps.iter().enumerate().filter(|(b, _)| b >> q & 1 == 1).map(|(_, a)| a.norm_sqr()).sum()
    }

    /// Projects qubit q on a value and normalises. Returns the probability of the value; if that is 0, nothing is left.
    pub fn project(&mut self, q: usize, value: bool) -> f64 {
        let p = if value { self.probability_of_one(q) } else { 1.0 - self.probability_of_one(q) };
        let norm = if p > 0.0 { p.sqrt() } else { 1.0 };
        for (b, a) in self.amps.iter_mut().enumerate() {
            *a = if (b >> q & 1 == 1) == value { *a / norm } else { c(0.0, 0.0) };
        }
        p
    }

    /// Performs a unitary operation: register q is qubit q.
    ///
    /// # Panics
    /// If it is not unitary.
    pub fn unitary(&mut self, op: &Op) {
        let u = |q: u32| q as usize;
        match *op {
            Op::Fence => {}
            Op::Pauli(p, q) => self.apply([&gates::X, &gates::Y, &gates::Z][p as usize], &[], u(q)),
            Op::Clifford1(gate, q) => self.apply(&clifford(gate), &[], u(q)),
            Op::Clifford2(Clifford2::Cnot, a, b) | Op::TeleportCnot(a, b) => self.apply(&gates::X, &[u(a)], u(b)),
            Op::Clifford2(Clifford2::Cz, a, b) => self.apply(&gates::Z, &[u(a)], u(b)),
            Op::Clifford2(Clifford2::Swap, a, b) => self.swap(u(a), u(b)),
            Op::T(q) => self.apply(&gates::phase(FRAC_PI_4), &[], u(q)),
            Op::Tdg(q) => self.apply(&gates::phase(-FRAC_PI_4), &[], u(q)),
            Op::Rotate(p, q, angle) => self.apply(&[gates::rx, gates::ry, gates::rz][p as usize](angle), &[], u(q)),
            Op::Ccz(a, b, target) => self.apply(&gates::Z, &[u(a), u(b)], u(target)),
            Op::Toffoli(a, b, target) => self.apply(&gates::X, &[u(a), u(b)], u(target)),
            _ => panic!("{op:?} is not unitary"),
        }
    }

    /// Performs any operation; `draw` decides each outcome, given the probability of 1.
    pub fn perform(&mut self, op: &Op, draw: &mut impl FnMut(f64) -> bool) {
        let u = |q: u32| q as usize;
        match *op {
            Op::Free(_) => {}
            Op::Alloc(q) | Op::Reset(q) => self.reset(u(q), draw),
            Op::InjectT(q) => {
                self.reset(u(q), draw);
                self.apply(&gates::H, &[], u(q));
                self.apply(&gates::phase(FRAC_PI_4), &[], u(q));
            }
            Op::Measure(Pauli::Z, q, _) => _ = self.measure(u(q), draw),
            Op::Measure(Pauli::X, q, _) => self.measure_between([&gates::H, &gates::H], u(q), draw),
            Op::Measure(Pauli::Y, q, _) => {
                self.measure_between([&gates::rx(FRAC_PI_2), &gates::rx(-FRAC_PI_2)], u(q), draw);
            }
            Op::MeasureAngle(angle, q, _) => self.measure_between([&gates::ry(-angle), &gates::ry(angle)], u(q), draw),
            Op::MeasureBell(a, b, ..) => {
                self.apply(&gates::X, &[u(a)], u(b));
                self.apply(&gates::H, &[], u(a));
                self.measure(u(a), draw);
                self.measure(u(b), draw);
                self.apply(&gates::H, &[], u(a));
                self.apply(&gates::X, &[u(a)], u(b));
            }
            _ => self.unitary(op),
        }
    }

    fn measure(&mut self, q: usize, draw: &mut impl FnMut(f64) -> bool) -> bool {
        let value = draw(self.probability_of_one(q));
        self.project(q, value);
        value
    }

    /// Measures Z after a gate, and undoes the gate.
    fn measure_between(&mut self, [to, back]: [&Gate; 2], q: usize, draw: &mut impl FnMut(f64) -> bool) {
        self.apply(to, &[], q);
        self.measure(q, draw);
        self.apply(back, &[], q);
    }

    fn reset(&mut self, q: usize, draw: &mut impl FnMut(f64) -> bool) {
        if self.measure(q, draw) {
            self.apply(&gates::X, &[], q);
        }
    }

    /// Purity of one qubit: 1 iff it is not entangled.
    pub fn purity(&self, q: usize) -> f64 {
        let one = self.probability_of_one(q);
        let zeros = (0..self.amps.len()).filter(|b| b >> q & 1 == 0);
        let off: Complex64 = zeros.map(|b| self.amps[b].conj() * self.amps[b | 1 << q]).sum();
        one * one + (1.0 - one) * (1.0 - one) + 2.0 * off.norm_sqr()
    }

    /// |<self|other>|².
    pub fn fidelity(&self, other: &[Complex64]) -> f64 {
        self.amps.iter().zip(other).map(|(a, b)| a.conj() * b).sum::<Complex64>().norm_sqr()
    }
}

fn clifford(gate: Clifford1) -> Gate {
    match gate {
        Clifford1::H => gates::H,
        Clifford1::S => gates::phase(FRAC_PI_2),
        Clifford1::Sdg => gates::phase(-FRAC_PI_2),
        Clifford1::Sx => gates::rx(FRAC_PI_2),
        Clifford1::Sxdg => gates::rx(-FRAC_PI_2),
    }
}
