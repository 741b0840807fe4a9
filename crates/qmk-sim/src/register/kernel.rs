//! Passes over chunks of amplitudes.
//!
//! An index is split into its low three bits (the lane) and the rest (the chunk). `P|b> = i^y (-1)^(b·z) |b^x>`
//! with `y = |x & z|`: the partner chunk is `chunk ^ x_high`, the lanes permute by `x_low`, the sign is a parity of
//! the chunk times a sign per lane, and what is left of the factor is real or imaginary for the whole pass.

use super::mask::Mask;
use crate::simd::{Chunk, Kernel, LANES, Simd};

pub(super) const LANE_BITS: u32 = LANES.trailing_zeros();
pub(super) const LANE_MASK: u64 = LANES as u64 - 1;

/// -1 or 1.
#[inline(always)]
pub(super) fn sign(odd: bool) -> f64 {
    if odd { -1.0 } else { 1.0 }
}

#[inline(always)]
pub(super) fn parity(b: u64) -> usize {
    (b.count_ones() & 1) as usize
}

/// `b` with a zero bit inserted at position `bit`.
#[inline(always)]
pub(super) fn insert_zero(b: usize, bit: u32) -> usize {
    let low = b & ((1 << bit) - 1);
    (b ^ low) << 1 | low
}

/// `c + w·u·S`: with S the signed permutation of a Pauli string without its power of i, `u` 1 or i as the string
/// dictates. Rotations and projections both have this form.
#[derive(Clone, Copy)]
pub(super) struct Combine {
    pub(super) x: u64,
    pub(super) z: u64,
    pub(super) imaginary: bool,
    pub(super) c: f64,
    pub(super) w: f64,
}

impl Combine {
    /// `exp(-i θ/2 P)`, given sine and cosine of θ/2.
    ///
    /// `-i s P|b^x>` has the factor `-i s (-i)^y`.
    pub(super) fn rotation(p: Mask, (s, c): (f64, f64)) -> Self {
        let y = (p.x & p.z).count_ones();
        let w = if (y & 2 == 0) ^ p.negative { -s } else { s };
        Combine { x: p.x, z: p.z, imaginary: y & 1 == 0, c, w }
    }

    /// `1 ± P`.
    pub(super) fn projection(p: Mask, outcome: bool) -> Self {
        // The factor is (-i)^y.
        let y = (p.x & p.z).count_ones();
        Combine {
            x: p.x,
            z: p.z,
            imaginary: y & 1 == 1,
            c: 1.0,
            w: sign((y + 1) & 2 != 0) * sign(p.negative ^ outcome),
        }
    }

    /// The weight of the partner per lane, for even and odd chunks.
    #[inline(always)]
    fn weights<S: Simd>(&self, s: S) -> [S::V; 2] {
        let even = Chunk::from_fn(|l| self.w * sign(parity(l as u64 & self.z) == 1));
        [s.load(&even), s.load(&Chunk(even.0.map(|w| -w)))]
    }

    /// Applies to `re` and `im`, whose indices may carry further high bits.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, s: S, re: &mut [Chunk], im: &mut [Chunk]) {
        match (self.imaginary, self.x & LANE_MASK != 0) {
            (false, false) => self.apply_as::<S, false, false>(s, re, im),
            (false, true) => self.apply_as::<S, false, true>(s, re, im),
            (true, false) => self.apply_as::<S, true, false>(s, re, im),
            (true, true) => self.apply_as::<S, true, true>(s, re, im),
        }
    }

    #[inline(always)]
    fn apply_as<S: Simd, const IMAGINARY: bool, const PERMUTED: bool>(&self, s: S, re: &mut [Chunk], im: &mut [Chunk]) {
        let c = s.splat(self.c);
        let weights = self.weights(s);
        let lanes = s.permutation((self.x & LANE_MASK) as usize);
        let (xh, zh) = (self.x >> LANE_BITS, self.z >> LANE_BITS);
        if xh == 0 {
            for (h, (re, im)) in re.iter_mut().zip(im).enumerate() {
                let a = (s.load(re), s.load(im));
                let a = update::<S, IMAGINARY, PERMUTED>(s, c, lanes, a, weights[parity(h as u64 & zh)], a);
                s.store(a.0, re);
                s.store(a.1, im);
            }
            return;
        }
        // One of each pair: the highest bit, so that both are walked in long stretches.
        let top = xh.ilog2();
        let flip = parity(xh & zh);
        let n = re.len();
        let im = &mut im[..n];
        for i in 0..n / 2 {
            let h = insert_zero(i, top);
            let j = h ^ xh as usize;
            let odd = parity(h as u64 & zh);
            let a = (s.load(&re[h]), s.load(&im[h]));
            let b = (s.load(&re[j]), s.load(&im[j]));
            let a_new = update::<S, IMAGINARY, PERMUTED>(s, c, lanes, a, weights[odd], b);
            let b_new = update::<S, IMAGINARY, PERMUTED>(s, c, lanes, b, weights[odd ^ flip], a);
            s.store(a_new.0, &mut re[h]);
            s.store(a_new.1, &mut im[h]);
            s.store(b_new.0, &mut re[j]);
            s.store(b_new.1, &mut im[j]);
        }
    }
}

/// `c·a + w·b`, with the lanes of b permuted and, if `IMAGINARY`, times i.
#[inline(always)]
fn update<S: Simd, const IMAGINARY: bool, const PERMUTED: bool>(
    s: S,
    c: S::V,
    lanes: S::Permutation,
    (re, im): (S::V, S::V),
    w: S::V,
    (mut re_other, mut im_other): (S::V, S::V),
) -> (S::V, S::V) {
    if PERMUTED {
        (re_other, im_other) = (s.permute(re_other, lanes), s.permute(im_other, lanes));
    }
    if IMAGINARY {
        (s.neg_mul_add(w, im_other, s.mul(c, re)), s.mul_add(w, re_other, s.mul(c, im)))
    } else {
        (s.mul_add(w, re_other, s.mul(c, re)), s.mul_add(w, im_other, s.mul(c, im)))
    }
}

/// Sine and cosine of half an angle, exactly odd and even; remembers the last angle.
pub(super) fn half_angles() -> impl FnMut(f64) -> (f64, f64) {
    let mut last = (0.0, (0.0, 1.0));
    move |theta| {
        let t = theta.abs();
        if t != last.0 {
            last = (t, libm::sincos(t / 2.0));
        }
        let (s, c) = last.1;
        (if theta < 0.0 { -s } else { s }, c)
    }
}

/// [`Combine`] on everything.
pub(super) struct All<'a> {
    pub(super) re: &'a mut [Chunk],
    pub(super) im: &'a mut [Chunk],
    pub(super) op: Combine,
}

impl Kernel for All<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.op.apply(s, self.re, self.im);
    }
}

/// [`Combine`] with its own `(c, w)` in each group of `2^k` amplitudes; `w == 0` leaves the group alone.
pub(super) struct Each<'a> {
    pub(super) k: u32,
    pub(super) re: &'a mut [Chunk],
    pub(super) im: &'a mut [Chunk],
    pub(super) op: Combine,
    pub(super) coefficients: &'a [(f64, f64)],
}

impl Kernel for Each<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Each { k, re, im, op, coefficients } = self;
        if k >= LANE_BITS {
            let n = 1 << (k - LANE_BITS);
            for ((re, im), &(c, w)) in re.chunks_exact_mut(n).zip(im.chunks_exact_mut(n)).zip(coefficients) {
                if w != 0.0 {
                    Combine { c, w, ..op }.apply(s, re, im);
                }
            }
            return;
        }
        // Several groups share a chunk: coefficients differ by lane.
        let signs = Chunk::from_fn(|l| sign(parity(l as u64 & op.z) == 1));
        let lanes = s.permutation(op.x as usize);
        for ((re, im), coefficients) in re.iter_mut().zip(im).zip(coefficients.chunks(LANES >> k)) {
            if coefficients.iter().all(|&(_, w)| w == 0.0) {
                continue;
            }
            let at = |l: usize| coefficients.get(l >> k).copied().unwrap_or((1.0, 0.0));
            let c = s.load(&Chunk::from_fn(|l| at(l).0));
            let w = s.load(&Chunk::from_fn(|l| at(l).1 * signs.0[l]));
            let old = (*re, *im);
            let (a, b) = (s.load(re), s.load(im));
            let (pa, pb) = (s.permute(a, lanes), s.permute(b, lanes));
            if op.imaginary {
                s.store(s.neg_mul_add(w, pb, s.mul(c, a)), re);
                s.store(s.mul_add(w, pa, s.mul(c, b)), im);
            } else {
                s.store(s.mul_add(w, pa, s.mul(c, a)), re);
                s.store(s.mul_add(w, pb, s.mul(c, b)), im);
            }
            // A product with 1 plus 0 may still lose the sign of a zero.
            for l in (0..LANES).filter(|&l| at(l).1 == 0.0) {
                (re.0[l], im.0[l]) = (old.0.0[l], old.1.0[l]);
            }
        }
    }
}

/// `<φ_g|P|φ_g>`, summed in an order that depends on k and P only.
pub(super) struct Expectation<'a> {
    pub(super) k: u32,
    pub(super) re: &'a [Chunk],
    pub(super) im: &'a [Chunk],
    pub(super) p: Mask,
    pub(super) out: &'a mut [f64],
}

impl Kernel for Expectation<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Expectation { k, re, im, p, out } = self;
        if k >= LANE_BITS {
            let n = 1 << (k - LANE_BITS);
            for ((re, im), out) in re.chunks_exact(n).zip(im.chunks_exact(n)).zip(out) {
                *out = expectation(s, re, im, p);
            }
            return;
        }
        let (sign_lanes, imaginary) = signs(p);
        let lanes = s.permutation(p.x as usize);
        let width = 1 << k;
        for ((re, im), out) in re.iter().zip(im).zip(out.chunks_mut(LANES >> k)) {
            let (a, b) = (s.load(re), s.load(im));
            let terms = terms(s, imaginary, (a, b), (s.permute(a, lanes), s.permute(b, lanes)));
            let mut signed = Chunk::default();
            s.store(s.mul(terms, s.load(&sign_lanes)), &mut signed);
            for (out, v) in out.iter_mut().zip(signed.0.chunks_exact(width)) {
                *out = match *v {
                    [a] => a,
                    [a, b] => a + b,
                    _ => (v[0] + v[2]) + (v[1] + v[3]),
                };
            }
        }
    }
}

/// The sign of each lane, and whether the terms are those of an imaginary factor.
#[inline(always)]
fn signs(p: Mask) -> (Chunk, bool) {
    let y = (p.x & p.z).count_ones();
    (Chunk::from_fn(|l| sign(p.negative ^ (y & 2 != 0) ^ (parity(l as u64 & p.z) == 1))), y & 1 == 1)
}

/// Real part of `conj(b) a`, or of `i conj(b) a`.
#[inline(always)]
fn terms<S: Simd>(s: S, imaginary: bool, a: (S::V, S::V), b: (S::V, S::V)) -> S::V {
    if imaginary { s.neg_mul_add(b.0, a.1, s.mul(b.1, a.0)) } else { s.mul_add(b.0, a.0, s.mul(b.1, a.1)) }
}

/// `<φ|P|φ>` of one group of whole chunks.
#[inline(always)]
pub(super) fn expectation<S: Simd>(s: S, re: &[Chunk], im: &[Chunk], p: Mask) -> f64 {
    let (even, imaginary) = signs(p);
    let weights = [s.load(&even), s.load(&Chunk(even.0.map(|w| -w)))];
    let lanes = s.permutation((p.x & LANE_MASK) as usize);
    let (xh, zh) = (p.x >> LANE_BITS, p.z >> LANE_BITS);
    let mut sum = s.splat(0.0);
    let factor = if xh == 0 {
        for h in 0..re.len() {
            let a = (s.load(&re[h]), s.load(&im[h]));
            let b = (s.permute(a.0, lanes), s.permute(a.1, lanes));
            sum = s.mul_add(weights[parity(h as u64 & zh)], terms(s, imaginary, a, b), sum);
        }
        1.0
    } else {
        // Both members of a pair give the same.
        let top = xh.ilog2();
        for i in 0..re.len() / 2 {
            let h = insert_zero(i, top);
            let j = h ^ xh as usize;
            let (a, b) = ((s.load(&re[h]), s.load(&im[h])), (s.load(&re[j]), s.load(&im[j])));
            let b = (s.permute(b.0, lanes), s.permute(b.1, lanes));
            sum = s.mul_add(weights[parity(h as u64 & zh)], terms(s, imaginary, a, b), sum);
        }
        2.0
    };
    let mut total = Chunk::default();
    s.store(sum, &mut total);
    factor * total.sum()
}

/// Projects each group of `2^k >= 16` amplitudes, and packs the halves that are kept at the front, normalised.
pub(super) struct Project<'a> {
    pub(super) k: u32,
    pub(super) re: &'a mut [Chunk],
    pub(super) im: &'a mut [Chunk],
    pub(super) p: Mask,
    pub(super) bit: u32,
    pub(super) outcomes: &'a [bool],
}

impl Kernel for Project<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Project { k, re, im, p, bit, outcomes } = self;
        let n = 1usize << (k - LANE_BITS);
        for (g, &outcome) in outcomes.iter().enumerate() {
            let (from, to) = (g * n, g * n / 2);
            if p.x >> bit > 1 || p.x != 0 && bit < LANE_BITS {
                Combine::projection(p, outcome).apply(s, &mut re[from..from + n], &mut im[from..from + n]);
            } else if p.x != 0 {
                // Only the half that is kept is computed. It is written below all amplitudes that are yet to be read.
                let half = Half::new(s, p, outcome);
                for i in 0..n / 2 {
                    let (re_new, im_new) = half.at(s, &re[from..], &im[from..], i);
                    s.store(re_new, &mut re[to + i]);
                    s.store(im_new, &mut im[to + i]);
                }
            }
            if p.x == 0 || p.x >> bit > 1 || bit < LANE_BITS {
                let keep = Keep::new(p, bit, outcome);
                for i in 0..n / 2 {
                    // Reads never lie below writes.
                    (re[to + i], im[to + i]) = (keep.chunk(&re[from..], i), keep.chunk(&im[from..], i));
                }
            }
            normalise(s, &mut re[to..to + n / 2], &mut im[to..to + n / 2]);
        }
    }
}

#[inline(always)]
fn normalise<S: Simd>(s: S, re: &mut [Chunk], im: &mut [Chunk]) {
    let norm = expectation(s, re, im, Mask { x: 0, z: 0, negative: false });
    let scale = s.splat(norm.sqrt().recip());
    for c in re.iter_mut().chain(im) {
        s.store(s.mul(s.load(c), scale), c);
    }
}

/// The amplitudes of `(1 ± P)φ` with the highest bit of P's X part at 0, which must not be a lane's.
struct Half<S: Simd> {
    imaginary: bool,
    weights: [S::V; 2],
    lanes: S::Permutation,
    x: usize,
    z: u64,
}

impl<S: Simd> Half<S> {
    #[inline(always)]
    fn new(s: S, p: Mask, outcome: bool) -> Self {
        let op = Combine::projection(p, outcome);
        let lanes = s.permutation((op.x & LANE_MASK) as usize);
        let (x, z) = ((op.x >> LANE_BITS) as usize, op.z >> LANE_BITS);
        Half { imaginary: op.imaginary, weights: op.weights(s), lanes, x, z }
    }

    /// Chunk i.
    #[inline(always)]
    fn at(&self, s: S, re: &[Chunk], im: &[Chunk], i: usize) -> (S::V, S::V) {
        let h = insert_zero(i, self.x.ilog2());
        let j = h ^ self.x;
        let w = self.weights[parity(h as u64 & self.z)];
        let (a, b) = ((s.load(&re[h]), s.load(&im[h])), (s.load(&re[j]), s.load(&im[j])));
        // As `Combine` does, to the bit.
        let c = s.splat(1.0);
        if self.imaginary {
            update::<S, true, true>(s, c, self.lanes, a, w, b)
        } else {
            update::<S, false, true>(s, c, self.lanes, a, w, b)
        }
    }
}

/// Projects source groups, each larger than two chunks, into new ones. P has an X part, whose highest bit goes and is
/// not a lane's.
pub(super) struct ProjectInto<'a> {
    pub(super) k: u32,
    pub(super) re: &'a [Chunk],
    pub(super) im: &'a [Chunk],
    pub(super) p: Mask,
    pub(super) targets: &'a [(u32, bool)],
    pub(super) re_out: &'a mut [Chunk],
    pub(super) im_out: &'a mut [Chunk],
}

impl Kernel for ProjectInto<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ProjectInto { k, re, im, p, targets, re_out, im_out } = self;
        let n = 1usize << (k - LANE_BITS);
        let out = re_out.chunks_exact_mut(n / 2).zip(im_out.chunks_exact_mut(n / 2));
        for (&(source, outcome), (re_out, im_out)) in targets.iter().zip(out) {
            let group = source as usize * n..(source as usize + 1) * n;
            let (re, im) = (&re[group.clone()], &im[group]);
            let half = Half::new(s, p, outcome);
            for i in 0..n / 2 {
                let (re_new, im_new) = half.at(s, re, im, i);
                s.store(re_new, &mut re_out[i]);
                s.store(im_new, &mut im_out[i]);
            }
            normalise(s, re_out, im_out);
        }
    }
}

/// The half that a projection keeps.
pub(super) struct Keep {
    bit: u32,
    z: u64,
    /// The bit to keep is this plus the parity of the kept index with z.
    value: usize,
}

impl Keep {
    #[inline(always)]
    pub(super) fn new(p: Mask, bit: u32, outcome: bool) -> Self {
        match p.x {
            0 => Keep { bit, z: p.z & !(1 << bit), value: (outcome ^ p.negative) as usize },
            _ => Keep { bit, z: 0, value: 0 },
        }
    }

    /// Source of amplitude i.
    #[inline(always)]
    pub(super) fn index(&self, i: usize) -> usize {
        let b = insert_zero(i, self.bit);
        b | (self.value ^ parity(b as u64 & self.z)) << self.bit
    }

    /// Chunk i of the half of a group that is kept.
    #[inline(always)]
    fn chunk(&self, from: &[Chunk], i: usize) -> Chunk {
        if self.bit < LANE_BITS {
            let from = [from[2 * i].0, from[2 * i + 1].0];
            let odd = parity((2 * i * LANES) as u64 & self.z) << self.bit;
            return Chunk::from_fn(|l| {
                let l = self.index(l) ^ odd;
                from[l >> LANE_BITS & 1][l % LANES]
            });
        }
        let low = insert_zero(i, self.bit - LANE_BITS);
        let high = low | 1 << (self.bit - LANE_BITS);
        let odd = self.value ^ parity((low * LANES) as u64 & self.z);
        if self.z & LANE_MASK == 0 {
            return from[if odd == 1 { high } else { low }];
        }
        let (low, high) = (from[low].0, from[high].0);
        Chunk::from_fn(|l| if odd ^ parity(l as u64 & self.z) == 1 { high[l] } else { low[l] })
    }
}
