//! The frame and the register of one shot.

use super::backend::{Backend, Frame};
use super::tableau::PauliString;
use crate::register::Register;
use crate::register::mask::Mask;
use crate::register::merge::merge;
use crate::rng::{DrawSite, Random};

/// The Pauli frame of one shot.
#[derive(Clone, Debug, Default)]
pub(crate) struct BitFrame {
    x: Vec<u64>,
    z: Vec<u64>,
}

impl Frame for BitFrame {
    type Bit = bool;

    fn resize(&mut self, words: usize) {
        self.x.resize(words, 0);
        self.z.resize(words, 0);
    }

    fn anticommutes(&self, q: &PauliString) -> bool {
        q.words().fold(0, |p, (w, x, z)| p ^ (z & self.x[w]) ^ (x & self.z[w])).count_ones() & 1 == 1
    }

    fn absorb(&mut self, q: &PauliString, bit: &bool, active: &[u64]) {
        if *bit {
            for (w, x, z) in q.words() {
                self.x[w] ^= x;
                self.z[w] ^= z & active[w];
            }
        }
    }

    fn x(&self, v: usize) -> bool {
        self.x[v / 64] >> (v % 64) & 1 == 1
    }

    fn z(&self, v: usize) -> bool {
        self.z[v / 64] >> (v % 64) & 1 == 1
    }

    fn idle(&self, mut candidates: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
        candidates.find_map(|(w, x)| {
            let idle = x & !self.x[w];
            (idle != 0).then(|| w * 64 + idle.trailing_zeros() as usize)
        })
    }

    fn set(&mut self, v: usize, bit: bool) {
        let (w, mask) = (v / 64, 1u64 << (v % 64));
        self.z[w] &= !mask;
        self.x[w] = self.x[w] & !mask | (bit as u64) << (v % 64);
    }

    fn set_z(&mut self, v: usize, bit: bool) {
        self.z[v / 64] = self.z[v / 64] & !(1 << (v % 64)) | (bit as u64) << (v % 64);
    }

    fn xor(into: &mut bool, other: &bool) {
        *into ^= other;
    }
}

/// The backend of one shot: every draw is made at once. Rotations are collected, so that a pass over the register does
/// many.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) random: Random,
    pub(crate) shot: u64,
    pub(super) register: Register,
    waiting: Vec<(Mask, f64)>,
}

impl Shot {
    pub(crate) fn new(seed: u64, shot: u64) -> Self {
        Shot { random: Random { seed }, shot, register: Register::new(), waiting: Vec::new() }
    }

    /// Takes over another register. Its bits come above those here.
    pub(super) fn adopt(&mut self, other: Shot) {
        let k = self.register.qubits();
        self.register = self.register.tensor(&other.register);
        let up = |m: Mask| Mask { x: m.x << k, z: m.z << k, ..m };
        self.waiting.extend(other.waiting.into_iter().map(|(m, theta)| (up(m), theta)));
    }

    pub(super) fn flush(&mut self) {
        self.register.rotate_many(&self.waiting);
        self.waiting.clear();
    }
}

/// Probability of outcome 1 of an observable with this expectation value. Values next to 0, 1/2 and 1 are rounded to
/// them: an impossible outcome must not happen, and a fair one is read off the coin.
pub(crate) fn probability_of_one(expectation: f64) -> f64 {
    match (1.0 - expectation) / 2.0 {
        p if p < 1e-14 => 0.0,
        p if p > 1.0 - 1e-14 => 1.0,
        p if (p - 0.5).abs() < 1e-14 => 0.5,
        p => p,
    }
}

impl Backend for Shot {
    type Frame = BitFrame;

    fn coin(&mut self, site: DrawSite) -> bool {
        self.random.coin(site, self.shot)
    }

    fn rotate(&mut self, m: Mask, theta: f64, sign: bool, cond: Option<&bool>) {
        if cond.is_none_or(|&c| c) {
            merge(&mut self.waiting, m, if sign { -theta } else { theta }, false);
        }
    }

    fn push(&mut self, theta: f64, cond: Option<&bool>) {
        self.flush();
        self.register.push(if cond.is_none_or(|&c| c) { theta } else { 0.0 });
    }

    fn collapse(&mut self, m: Mask, sign: bool, bit: u32, site: DrawSite) -> bool {
        self.flush();
        let mut expectation = Vec::with_capacity(1);
        self.register.expectation(m, &mut expectation);
        let expectation = expectation[0];
        let p = probability_of_one(if sign { -expectation } else { expectation });
        let outcome = self.random.uniform(site, self.shot, self.random.coin(site, self.shot)) < p;
        self.register.project_in_place(m, bit, &[outcome ^ sign]);
        outcome
    }

    fn invert(into: &mut bool) {
        *into = !*into;
    }
}
