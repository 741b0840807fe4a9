//! The slow twin: one group, one amplitude at a time, straight from the definitions.

use super::mask::Mask;
use num_complex::Complex64;

/// `b` with a zero bit inserted at position `bit`.
#[inline]
fn insert_zero(b: u64, bit: u32) -> u64 {
    let low = b & ((1 << bit) - 1);
    (b ^ low) << 1 | low
}

/// A normalised vector of 2^k amplitudes. Bit i of an index is the value of active qubit i.
#[derive(Clone, Debug)]
pub(super) struct Register {
    pub(super) amps: Vec<Complex64>,
}

impl Default for Register {
    fn default() -> Self {
        Register { amps: vec![Complex64::new(1.0, 0.0)] }
    }
}

impl Register {
    /// Applies `exp(-i θ/2 P)`.
    pub(super) fn rotate(&mut self, p: Mask, theta: f64) {
        let (s, c) = (theta / 2.0).sin_cos();
        let is = Complex64::new(0.0, -s);
        if p.x == 0 {
            let plus = Complex64::new(c, -s);
            let minus = Complex64::new(c, s);
            for (b, a) in self.amps.iter_mut().enumerate() {
                let odd = (b as u64 & p.z).count_ones() & 1 == 1;
                *a *= if odd ^ p.negative { minus } else { plus };
            }
            return;
        }
        let pivot = p.x.trailing_zeros();
        for i in 0..self.amps.len() as u64 / 2 {
            let b0 = insert_zero(i, pivot);
            let b1 = b0 ^ p.x;
            let (a0, a1) = (self.amps[b0 as usize], self.amps[b1 as usize]);
            self.amps[b0 as usize] = a0 * c + is * p.phase(b1) * a1;
            self.amps[b1 as usize] = a1 * c + is * p.phase(b0) * a0;
        }
    }

    /// Adds a qubit as the highest bit, in `cos θ/2 |0> - i sin θ/2 |1>`.
    pub(super) fn push(&mut self, theta: f64) {
        let (s, c) = (theta / 2.0).sin_cos();
        let is = Complex64::new(0.0, -s);
        let n = self.amps.len();
        self.amps.reserve_exact(n);
        for b in 0..n {
            let a = self.amps[b];
            self.amps.push(is * a);
        }
        for a in &mut self.amps[..n] {
            *a *= c;
        }
    }

    /// `<φ|P|φ>`.
    pub(super) fn expectation(&self, p: Mask) -> f64 {
        self.amps.iter().enumerate().map(|(b, a)| (self.amps[b ^ p.x as usize].conj() * p.phase(b as u64) * a).re).sum()
    }

    /// Projects on the eigenvalue `(-1)^outcome` of P, then removes `bit`, which must be in the support of P (in
    /// its X part if that is not empty). The vector left is that of the other qubits with the bit at 0 if P has
    /// an X part, else with the bit as the others' parity and the outcome dictate.
    pub(super) fn project(&mut self, p: Mask, outcome: bool, bit: u32) {
        let half = self.amps.len() / 2;
        let mut norm = 0.0;
        let mut out = Vec::with_capacity(half);
        for i in 0..half as u64 {
            let b = insert_zero(i, bit);
            let a = if p.x == 0 {
                let value = outcome ^ p.negative ^ ((b & p.z).count_ones() & 1 == 1);
                self.amps[(b | (value as u64) << bit) as usize]
            } else {
                let other = b ^ p.x;
                let q = p.phase(other) * self.amps[other as usize];
                if outcome { self.amps[b as usize] - q } else { self.amps[b as usize] + q }
            };
            norm += a.norm_sqr();
            out.push(a);
        }
        let scale = norm.sqrt().recip();
        for a in &mut out {
            *a *= scale;
        }
        self.amps = out;
    }
}
