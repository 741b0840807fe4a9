//! A plain 2^n state-vector simulator, written for clarity: the independent reference for the physics.

use num_complex::Complex64;

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

    /// Projects qubit q on a value and normalises.
    pub fn project(&mut self, q: usize, value: bool) {
        let p = if value { self.probability_of_one(q) } else { 1.0 - self.probability_of_one(q) };
        for (b, a) in self.amps.iter_mut().enumerate() {
            *a = if (b >> q & 1 == 1) == value { *a / p.sqrt() } else { c(0.0, 0.0) };
        }
    }

    /// |<self|other>|².
    pub fn fidelity(&self, other: &[Complex64]) -> f64 {
        self.amps.iter().zip(other).map(|(a, b)| a.conj() * b).sum::<Complex64>().norm_sqr()
    }
}
