//! The dense register and its operations.

use super::kernel::{All, Combine, Each, Expectation, Keep, LANE_BITS, Project, ProjectInto, half_angles};
use super::mask::Mask;
use super::passes;
use crate::simd::{self, Chunk, LANES};
use num_complex::Complex64;

/// Groups of 2^k amplitudes each, every group a normalised vector. Bit i of an index within a group is the value of
/// active qubit i; group g has the indices from `g << k`.
#[derive(Clone, Debug)]
pub struct Register {
    k: u32,
    groups: usize,
    /// Real parts, the last chunk padded with zeros.
    pub(super) re: Vec<Chunk>,
    pub(super) im: Vec<Chunk>,
}

impl Default for Register {
    fn default() -> Self {
        Register::new()
    }
}

/// Chunks that hold this many amplitudes.
fn chunks(amplitudes: usize) -> usize {
    amplitudes.div_ceil(LANES)
}

impl Register {
    /// One group without qubits, its amplitude 1.
    pub fn new() -> Self {
        let mut re = vec![Chunk::default()];
        re[0].0[0] = 1.0;
        Register { k: 0, groups: 1, re, im: vec![Chunk::default()] }
    }

    /// Number of qubits k.
    pub fn qubits(&self) -> u32 {
        self.k
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn at(&self, i: usize) -> Complex64 {
        Complex64::new(self.re[i / LANES].0[i % LANES], self.im[i / LANES].0[i % LANES])
    }

    fn set(&mut self, i: usize, v: Complex64) {
        (self.re[i / LANES].0[i % LANES], self.im[i / LANES].0[i % LANES]) = (v.re, v.im);
    }

    /// The amplitudes of a group.
    pub fn amplitudes(&self, group: usize) -> Vec<Complex64> {
        (group << self.k..(group + 1) << self.k).map(|i| self.at(i)).collect()
    }

    /// Applies `exp(-i θ/2 P)` to every group.
    pub fn rotate(&mut self, p: Mask, theta: f64) {
        let op = Combine::rotation(p, half_angles()(theta));
        simd::run(All { re: &mut self.re, im: &mut self.im, op });
    }

    /// Applies rotations in order to every group: up to rounding the same as one [`Register::rotate`] after another,
    /// in fewer passes.
    pub fn rotate_many(&mut self, ops: &[(Mask, f64)]) {
        if ops.len() < 2 || self.k < passes::WORTHWHILE {
            return ops.iter().for_each(|&(p, theta)| self.rotate(p, theta));
        }
        self.apply(&passes::passes(self.k, ops, passes::gather(self.k)));
    }

    pub(super) fn apply(&mut self, passes: &[passes::Pass]) {
        simd::run(passes::Passes { k: self.k, re: &mut self.re, im: &mut self.im, passes });
    }

    /// Applies `exp(-i θ/2 P)` with an angle per group. A zero leaves its group as it is.
    pub fn rotate_each(&mut self, p: Mask, theta: &[f64]) {
        let mut half = half_angles();
        let op = Combine::rotation(p, (1.0, 0.0));
        let coefficients: Vec<(f64, f64)> = theta
            .iter()
            .map(|&t| {
                let (s, c) = half(t);
                (c, op.w * s)
            })
            .collect();
        self.combine_each(op, &coefficients);
    }

    fn combine_each(&mut self, op: Combine, coefficients: &[(f64, f64)]) {
        assert_eq!(coefficients.len(), self.groups);
        simd::run(Each { k: self.k, re: &mut self.re, im: &mut self.im, op, coefficients });
    }

    /// Adds a qubit as the highest bit of every group, in `cos θ/2 |0> - i sin θ/2 |1>`.
    pub fn push(&mut self, theta: f64) {
        let half = half_angles()(theta);
        self.push_with(|_| half);
    }

    /// As [`Register::push`], with an angle per group.
    pub fn push_each(&mut self, theta: &[f64]) {
        assert_eq!(theta.len(), self.groups);
        let mut half = half_angles();
        self.push_with(|g| half(theta[g]));
    }

    fn push_with(&mut self, mut half: impl FnMut(usize) -> (f64, f64)) {
        let n = 1usize << self.k;
        let total = chunks(self.groups * 2 * n);
        for v in [&mut self.re, &mut self.im] {
            v.reserve_exact(total - v.len());
            v.resize(total, Chunk::default());
        }
        // From the last group down, since results lie above the amplitudes that are yet to be read.
        for g in (0..self.groups).rev() {
            let (s, c) = half(g);
            if self.k < LANE_BITS {
                for i in (0..n).rev() {
                    let a = self.at(g * n + i);
                    self.set(2 * g * n + n + i, Complex64::new(s * a.im, -s * a.re));
                    self.set(2 * g * n + i, Complex64::new(c * a.re, c * a.im));
                }
                continue;
            }
            let n = n / LANES;
            for i in 0..n {
                let (re, im) = (self.re[g * n + i].0, self.im[g * n + i].0);
                self.re[2 * g * n + n + i] = Chunk(im.map(|v| s * v));
                self.im[2 * g * n + n + i] = Chunk(re.map(|v| -s * v));
                self.re[2 * g * n + i] = Chunk(re.map(|v| c * v));
                self.im[2 * g * n + i] = Chunk(im.map(|v| c * v));
            }
        }
        self.k += 1;
    }

    /// The tensor product of two registers of one group each; the bits of `high` come above those of this one.
    pub fn tensor(&self, high: &Register) -> Register {
        assert_eq!((self.groups, high.groups), (1, 1));
        let k = self.k + high.k;
        let total = chunks(1 << k);
        let mut product =
            Register { k, groups: 1, re: vec![Chunk::default(); total], im: vec![Chunk::default(); total] };
        for j in 0..1 << high.k {
            let b = high.at(j);
            for i in 0..1 << self.k {
                product.set(j << self.k | i, self.at(i) * b);
            }
        }
        product
    }

    /// `<φ_g|P|φ_g>` of every group.
    pub fn expectation(&self, p: Mask, out: &mut Vec<f64>) {
        out.clear();
        out.resize(self.groups, 0.0);
        simd::run(Expectation { k: self.k, re: &self.re, im: &self.im, p, out });
    }

    /// A register with a group for each target `(source group, outcome)`: the source projected on the eigenvalue
    /// `(-1)^outcome` of P, and `bit` removed. The bit must be in the support of P, in its X part if that is not empty.
    /// If P has an X part, the vector left is that of the other qubits with the bit at 0; else the bit has the value
    /// that the others' parity and the outcome dictate.
    pub fn project(&self, p: Mask, bit: u32, targets: &[(u32, bool)]) -> Register {
        if bit >= LANE_BITS && p.x >> bit == 1 {
            let total = chunks(targets.len() << (self.k - 1));
            let (mut re, mut im) = (vec![Chunk::default(); total], vec![Chunk::default(); total]);
            let (re_out, im_out) = (re.as_mut_slice(), im.as_mut_slice());
            simd::run(ProjectInto { k: self.k, re: &self.re, im: &self.im, p, targets, re_out, im_out });
            return Register { k: self.k - 1, groups: targets.len(), re, im };
        }
        // In batches that stay in cache, of whole chunks.
        const BATCH: usize = 1 << 12;
        let batch = (BATCH >> self.k).max(if self.k > LANE_BITS { 1 } else { LANES });
        let mut all = Register { k: self.k - 1, groups: 0, re: Vec::new(), im: Vec::new() };
        for v in [&mut all.re, &mut all.im] {
            v.reserve_exact(chunks(targets.len() << all.k));
        }
        for targets in targets.chunks(batch) {
            let (sources, outcomes): (Vec<u32>, Vec<bool>) = targets.iter().copied().unzip();
            let mut part = self.select(&sources);
            part.project_in_place(p, bit, &outcomes);
            all.groups += part.groups;
            all.re.extend_from_slice(&part.re);
            all.im.extend_from_slice(&part.im);
        }
        all
    }

    /// As [`Register::project`] with group g as the source of target g. Needs no second buffer, and keeps the freed
    /// memory for later pushes.
    pub fn project_in_place(&mut self, p: Mask, bit: u32, outcomes: &[bool]) {
        assert_eq!(outcomes.len(), self.groups);
        debug_assert!(if p.x != 0 { p.x } else { p.z } >> bit & 1 == 1);
        if self.k > LANE_BITS {
            simd::run(Project { k: self.k, re: &mut self.re, im: &mut self.im, p, bit, outcomes });
        } else {
            self.project_small(p, bit, outcomes);
        }
        self.k -= 1;
        let total = chunks(self.groups << self.k);
        self.re.truncate(total);
        self.im.truncate(total);
    }

    /// Projects groups that end up smaller than a chunk.
    fn project_small(&mut self, p: Mask, bit: u32, outcomes: &[bool]) {
        if p.x != 0 {
            let op = Combine::projection(p, false);
            let coefficients: Vec<(f64, f64)> =
                outcomes.iter().map(|&o| (op.c, if o { -op.w } else { op.w })).collect();
            self.combine_each(op, &coefficients);
        }
        let half = 1usize << (self.k - 1);
        for (g, &outcome) in outcomes.iter().enumerate() {
            let keep = Keep::new(p, bit, outcome);
            let mut kept = [Complex64::default(); LANES / 2];
            let mut norm = 0.0;
            for (i, a) in kept[..half].iter_mut().enumerate() {
                *a = self.at(2 * g * half + keep.index(i));
                norm += a.norm_sqr();
            }
            let scale = norm.sqrt().recip();
            for (i, a) in kept[..half].iter().enumerate() {
                self.set(g * half + i, a * scale);
            }
        }
        // The padding must be zero, or it would grow without bound.
        for i in outcomes.len() * half..chunks(outcomes.len() * half) * LANES {
            self.set(i, Complex64::default());
        }
    }

    /// A register whose group i is a copy of group `sources[i]`.
    pub fn select(&self, sources: &[u32]) -> Register {
        let n = 1usize << self.k;
        let mut copy = Register { k: self.k, groups: sources.len(), re: Vec::new(), im: Vec::new() };
        let total = chunks(n * sources.len());
        copy.re.reserve_exact(total);
        copy.im.reserve_exact(total);
        if self.k < LANE_BITS {
            copy.re.resize(total, Chunk::default());
            copy.im.resize(total, Chunk::default());
            for (g, &source) in sources.iter().enumerate() {
                for i in 0..n {
                    copy.set(g * n + i, self.at(source as usize * n + i));
                }
            }
            return copy;
        }
        let n = n / LANES;
        for &source in sources {
            let group = source as usize * n..(source as usize + 1) * n;
            copy.re.extend_from_slice(&self.re[group.clone()]);
            copy.im.extend_from_slice(&self.im[group]);
        }
        copy
    }
}
