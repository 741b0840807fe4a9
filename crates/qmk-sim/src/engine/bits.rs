//! Bit kernels of the tableau: products and anticommutation of Pauli strings, 64 qubits to a word.
//!
//! A string is stored in chunks: C words of X bits, then C words of Z bits. So any run of chunks is contiguous, and the
//! half of a chunk of eight words fills a vector register. Strings of up to 256 qubits have one chunk of 1, 2 or 4
//! words.
//!
//! A *fold* multiplies U by a Clifford on the virtual side, which changes every row of the tableau. Folds are applied
//! to a row many at a time, in registers where the row fits.

use crate::simd::{Kernel, LANES, Simd, run};

/// Words of one chunk for n qubits.
pub(crate) fn chunk_words(n: usize) -> usize {
    match n {
        0..=64 => 1,
        65..=128 => 2,
        129..=256 => 4,
        _ => 8,
    }
}

/// `a := a · b`; returns k with product = i^k × the Hermitian string left in `a`.
#[inline]
pub(crate) fn multiply(a: &mut [u64], b: &[u64], chunk: usize) -> u8 {
    match chunk {
        1 => multiply_with(Narrow::<1>, a, b),
        2 => multiply_with(Narrow::<2>, a, b),
        4 => multiply_with(Narrow::<4>, a, b),
        _ => run(Product { a, b }),
    }
}

struct Product<'a> {
    a: &'a mut [u64],
    b: &'a [u64],
}

impl Kernel for Product<'_> {
    type Output = u8;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u8 {
        multiply_with(Wide(s), self.a, self.b)
    }
}

/// Whether two strings anticommute.
pub(crate) fn anticommute(a: &[u64], b: &[u64], chunk: usize) -> bool {
    let mut parity = 0;
    for (a, b) in a.chunks_exact(2 * chunk).zip(b.chunks_exact(2 * chunk)) {
        let ((xa, za), (xb, zb)) = (a.split_at(chunk), b.split_at(chunk));
        for i in 0..chunk {
            parity ^= (xa[i] & zb[i]) ^ (za[i] & xb[i]);
        }
    }
    parity.count_ones() & 1 == 1
}

/// An instruction set, as used on the words of half a chunk.
trait Words: Copy {
    const WORDS: usize;
    type W: Copy;
    fn load(self, from: &[u64]) -> Self::W;
    fn store(self, v: Self::W, to: &mut [u64]);
    fn splat(self, v: u64) -> Self::W;
    fn and(self, a: Self::W, b: Self::W) -> Self::W;
    fn xor(self, a: Self::W, b: Self::W) -> Self::W;
    fn count(self, a: Self::W, b: Self::W) -> u8;
    fn any(self, a: Self::W) -> bool;
}

#[derive(Clone, Copy)]
struct Narrow<const C: usize>;

impl<const C: usize> Words for Narrow<C> {
    const WORDS: usize = C;
    type W = [u64; C];

    #[inline(always)]
    fn load(self, from: &[u64]) -> [u64; C] {
        std::array::from_fn(|i| from[i])
    }
    #[inline(always)]
    fn store(self, v: [u64; C], to: &mut [u64]) {
        to.copy_from_slice(&v);
    }
    #[inline(always)]
    fn splat(self, v: u64) -> [u64; C] {
        [v; C]
    }
    #[inline(always)]
    fn and(self, a: [u64; C], b: [u64; C]) -> [u64; C] {
        std::array::from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn xor(self, a: [u64; C], b: [u64; C]) -> [u64; C] {
        std::array::from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn count(self, a: [u64; C], b: [u64; C]) -> u8 {
        let (mut low, mut high) = (0, 0);
        for i in 0..C {
            high ^= b[i] ^ (low & a[i]);
            low ^= a[i];
        }
        (low.count_ones() + 2 * high.count_ones()) as u8 & 3
    }
    #[inline(always)]
    fn any(self, a: [u64; C]) -> bool {
        a.into_iter().fold(0, |x, w| x | w) != 0
    }
}

#[derive(Clone, Copy)]
struct Wide<S>(S);

#[inline(always)]
fn eight(words: &[u64]) -> &[u64; LANES] {
    words.try_into().expect("half a chunk")
}

impl<S: Simd> Words for Wide<S> {
    const WORDS: usize = LANES;
    type W = S::W;

    #[inline(always)]
    fn load(self, from: &[u64]) -> S::W {
        self.0.load_words(eight(from))
    }
    #[inline(always)]
    fn store(self, v: S::W, to: &mut [u64]) {
        self.0.store_words(v, to.try_into().expect("half a chunk"));
    }
    #[inline(always)]
    fn splat(self, v: u64) -> S::W {
        self.0.splat_words(v)
    }
    #[inline(always)]
    fn and(self, a: S::W, b: S::W) -> S::W {
        self.0.and(a, b)
    }
    #[inline(always)]
    fn xor(self, a: S::W, b: S::W) -> S::W {
        self.0.xor(a, b)
    }
    #[inline(always)]
    fn count(self, a: S::W, b: S::W) -> u8 {
        self.0.count(a, b)
    }
    #[inline(always)]
    fn any(self, a: S::W) -> bool {
        self.0.any(a)
    }
}

/// Adds the powers of i of the qubit-wise products (XY = iZ and so on) to two-bit counters, one for each bit position:
/// their low bits are in one word, their high bits in another.
#[inline(always)]
fn add_phase<T: Words>(t: T, [one, two]: [T::W; 2], [x1, z1]: [T::W; 2], [x2, z2]: [T::W; 2]) -> [T::W; 2] {
    let x1z2 = t.and(x1, z2);
    let anti = t.xor(t.and(x2, z1), x1z2);
    let sum = t.xor(t.xor(t.xor(x1, x2), t.xor(z1, z2)), x1z2);
    [t.xor(one, anti), t.xor(two, t.and(t.xor(one, sum), anti))]
}

#[inline(always)]
fn multiply_with<T: Words>(t: T, a: &mut [u64], b: &[u64]) -> u8 {
    let c = T::WORDS;
    let mut phase = [t.splat(0); 2];
    for (a, b) in a.chunks_exact_mut(2 * c).zip(b.chunks_exact(2 * c)) {
        let (left, right) = ([t.load(&a[..c]), t.load(&a[c..])], [t.load(&b[..c]), t.load(&b[c..])]);
        phase = add_phase(t, phase, left, right);
        t.store(t.xor(left[0], right[0]), &mut a[..c]);
        t.store(t.xor(left[1], right[1]), &mut a[c..]);
    }
    t.count(phase[0], phase[1])
}

/// A one-qubit Clifford on a virtual qubit that precedes or follows a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AxisPermutation {
    Identity,
    H,
    S,
}

/// A Clifford to fold into rows on the virtual side: `before`, then "R controlled by d", then H if `hadamard`, all on
/// virtual qubit d. R itself, without anything on d, is kept beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fold {
    pub(crate) before: AxisPermutation,
    /// Sign of R.
    pub(crate) negative: bool,
    /// Chunks that hold R.
    pub(crate) span: (u32, u32),
    /// Position of d's X word in a row, and its bit.
    pub(crate) word: u32,
    pub(crate) bit: u64,
    pub(crate) hadamard: bool,
    /// d's bit among the X words of a row, if there are at most 16. It is stored long before it is loaded, since a
    /// vector load right after a scalar store to the same place stalls.
    spot: [u64; 2 * LANES],
}

impl Fold {
    pub(crate) fn new(
        before: AxisPermutation,
        negative: bool,
        span: (u32, u32),
        d: usize,
        chunk: usize,
        hadamard: bool,
    ) -> Self {
        let (word, bit) = (d / 64, 1 << (d % 64));
        let mut spot = [0; 2 * LANES];
        if let Some(spot) = spot.get_mut(word) {
            *spot = bit;
        }
        let word = (word / chunk * 2 * chunk + word % chunk) as u32;
        Fold { before, negative, span, word, bit, hadamard, spot }
    }
}

/// A row that folds change.
pub(crate) struct Row<'a> {
    pub(crate) bits: &'a mut [u64],
    pub(crate) negative: &'a mut bool,
    /// Chunks outside of which it is zero.
    pub(crate) span: &'a mut (u32, u32),
}

/// Folds one Clifford after the other into rows. `strings` holds their R's, each as long as a row. A fold is a long
/// chain of dependent instructions, so four rows take hardly longer than one.
pub(crate) fn fold<const R: usize>(rows: [Row<'_>; R], folds: &[Fold], strings: &[u64], chunk: usize) {
    match chunk {
        1 => fold_in_registers::<_, 1, R>(Narrow::<1>, rows, folds, strings),
        2 => fold_in_registers::<_, 1, R>(Narrow::<2>, rows, folds, strings),
        4 => fold_in_registers::<_, 1, R>(Narrow::<4>, rows, folds, strings),
        _ => run(Folding { rows, folds, strings }),
    }
}

struct Folding<'a, const R: usize> {
    rows: [Row<'a>; R],
    folds: &'a [Fold],
    strings: &'a [u64],
}

impl<const R: usize> Kernel for Folding<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Folding { rows, folds, strings } = self;
        match rows[0].bits.len() / (2 * LANES) {
            1 => fold_in_registers::<_, 1, R>(Wide(s), rows, folds, strings),
            2 if S::MANY => fold_in_registers::<_, 2, R>(Wide(s), rows, folds, strings),
            // Sixteen registers hold two rows of two chunks, not four.
            2 => {
                let mut rows = rows.into_iter();
                while let Some(row) = rows.next() {
                    match rows.next() {
                        Some(other) => fold_in_registers::<_, 2, 2>(Wide(s), [row, other], folds, strings),
                        None => fold_in_registers::<_, 2, 1>(Wide(s), [row], folds, strings),
                    }
                }
            }
            _ => {
                for row in rows {
                    fold_in_memory(Wide(s), row, folds, strings);
                }
            }
        }
    }
}

/// The signs of rows after a fold, a bit to each. Row = X_d T or Y_d T if x, else T or Z_d T; R·T = i^k × Hermitian, k
/// = odd + 2 high, and k is odd iff they anticommute. Then T becomes Z_d T, X_d T becomes Y_d (-iRT), and Y_d T becomes
/// -X_d (-iRT).
#[inline(always)]
fn sign(f: &Fold, negative: u8, x: u8, z: u8, odd: u8, high: u8) -> u8 {
    let all = if f.negative { u8::MAX } else { 0 };
    let product = high ^ negative ^ all ^ (odd & z);
    negative ^ (x & (product ^ negative))
}

/// X and Z of one qubit after H or S, and whether the sign turns, a bit to each row.
#[inline(always)]
fn permute_axes(how: AxisPermutation, x: u8, z: u8) -> (u8, u8, u8) {
    match how {
        AxisPermutation::Identity => (x, z, 0),
        AxisPermutation::H => (z, x, x & z),
        // S†XS = -Y, S†YS = X.
        AxisPermutation::S => (x, z ^ x, x & !z),
    }
}

#[inline(always)]
fn load_chunks<T: Words, const K: usize>(t: T, bits: &[u64]) -> [[T::W; 2]; K] {
    let c = T::WORDS;
    let mut v = [[t.splat(0); 2]; K];
    for (v, chunk) in v.iter_mut().zip(bits.chunks_exact(2 * c)) {
        *v = [t.load(&chunk[..c]), t.load(&chunk[c..])];
    }
    v
}

/// Folds into rows of K chunks, which stay in registers from fold to fold. It has loops, not closures: a closure would
/// not be compiled for the instruction set.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "one index for several arrays of registers")]
fn fold_in_registers<T: Words, const K: usize, const R: usize>(
    t: T,
    rows: [Row<'_>; R],
    folds: &[Fold],
    strings: &[u64],
) {
    let c = T::WORDS;
    let mut vs = [[[t.splat(0); 2]; K]; R];
    let mut signs = 0u8;
    for i in 0..R {
        vs[i] = load_chunks::<T, K>(t, rows[i].bits);
        signs |= (*rows[i].negative as u8) << i;
    }
    for (f, r) in folds.iter().zip(strings.chunks_exact(2 * K * c)) {
        let mut d = [t.splat(0); K];
        for (d, spot) in d.iter_mut().zip(f.spot.chunks_exact(c)) {
            *d = t.load(spot);
        }
        let r = load_chunks::<T, K>(t, r);
        // In stages over all rows, so that the rows' chains run side by side.
        let (mut at_d, mut phase) = ([[t.splat(0); 2]; R], [[t.splat(0); 2]; R]);
        for i in 0..R {
            for k in 0..K {
                let [x1, z1] = vs[i][k];
                let [x2, z2] = r[k];
                at_d[i][0] = t.xor(at_d[i][0], t.and(x1, d[k]));
                at_d[i][1] = t.xor(at_d[i][1], t.and(z1, d[k]));
                phase[i] = add_phase(t, phase[i], [x1, z1], [x2, z2]);
            }
        }
        // A bit to each row.
        let (mut x0, mut z0, mut odd, mut high) = (0u8, 0u8, 0u8, 0u8);
        for i in 0..R {
            let count = 4 - t.count(phase[i][0], phase[i][1]);
            odd |= (count & 1) << i;
            high |= (count >> 1 & 1) << i;
            x0 |= (t.any(at_d[i][0]) as u8) << i;
            z0 |= (t.any(at_d[i][1]) as u8) << i;
        }
        let (x, z, flip) = permute_axes(f.before, x0, z0);
        signs = sign(f, signs ^ flip, x, z, odd, high);
        let (x1, z1, flip) =
            permute_axes(if f.hadamard { AxisPermutation::H } else { AxisPermutation::Identity }, x, z ^ odd);
        signs ^= flip;
        for i in 0..R {
            let mask = |bits: u8| ((bits >> i & 1) as u64).wrapping_neg();
            let (take, dx, dz) = (t.splat(mask(x)), t.splat(mask(x0 ^ x1)), t.splat(mask(z0 ^ z1)));
            for k in 0..K {
                let [x, z] = vs[i][k];
                vs[i][k] = [
                    t.xor(x, t.xor(t.and(r[k][0], take), t.and(d[k], dx))),
                    t.xor(z, t.xor(t.and(r[k][1], take), t.and(d[k], dz))),
                ];
            }
        }
    }
    for i in 0..R {
        for (v, chunk) in vs[i].iter().zip(rows[i].bits.chunks_exact_mut(2 * c)) {
            let (x, z) = chunk.split_at_mut(c);
            t.store(v[0], x);
            t.store(v[1], z);
        }
        *rows[i].negative = signs >> i & 1 == 1;
        *rows[i].span = (0, K as u32);
    }
}

#[inline(always)]
fn fold_in_memory<T: Words>(t: T, row: Row<'_>, folds: &[Fold], strings: &[u64]) {
    let Row { bits, negative, span } = row;
    let c = T::WORDS;
    for (f, r) in folds.iter().zip(strings.chunks_exact(bits.len())) {
        let home = f.word / (2 * c as u32);
        let (lo, hi) = *span;
        let at_home = lo <= home && home < hi;
        // Where both are not zero.
        let (from, to) = (lo.max(f.span.0), hi.min(f.span.1));
        if !at_home && from >= to {
            continue;
        }
        let (xi, zi) = (f.word as usize, f.word as usize + c);
        let one = |on: bool| on as u8;
        let (x, z, flip) = permute_axes(f.before, one(bits[xi] & f.bit != 0), one(bits[zi] & f.bit != 0));
        let k = if x == 1 {
            *span = (lo.min(f.span.0), hi.max(f.span.1));
            let range = f.span.0 as usize * 2 * c..f.span.1 as usize * 2 * c;
            4 - multiply_with(t, &mut bits[range.clone()], &r[range])
        } else {
            let mut phase = [t.splat(0); 2];
            let both = from as usize * 2 * c..to.max(from) as usize * 2 * c;
            for (a, b) in bits[both.clone()].chunks_exact(2 * c).zip(r[both].chunks_exact(2 * c)) {
                phase = add_phase(t, phase, [t.load(&a[..c]), t.load(&a[c..])], [t.load(&b[..c]), t.load(&b[c..])]);
            }
            4 - t.count(phase[0], phase[1])
        };
        let signs = sign(f, one(*negative) ^ flip, x, z, k & 1, k >> 1 & 1);
        let (x, z, flip) =
            permute_axes(if f.hadamard { AxisPermutation::H } else { AxisPermutation::Identity }, x, z ^ (k & 1));
        *negative = signs ^ flip == 1;
        let (x, z) = (x == 1, z == 1);
        if at_home || x || z {
            bits[xi] = bits[xi] & !f.bit | if x { f.bit } else { 0 };
            bits[zi] = bits[zi] & !f.bit | if z { f.bit } else { 0 };
            *span = (span.0.min(home), span.1.max(home + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::philox2x64;
    use crate::simd::at_each_level;

    fn words(seed: u64, n: usize) -> Vec<u64> {
        (0..n as u64).map(|i| philox2x64([i, 3], seed)[0]).collect()
    }

    /// One qubit at a time.
    fn slow_multiply(a: &mut [u64], b: &[u64], chunk: usize) -> u8 {
        let mut k = 0;
        for (a, b) in a.chunks_exact_mut(2 * chunk).zip(b.chunks_exact(2 * chunk)) {
            for i in 0..chunk {
                for bit in 0..64 {
                    let get = |v: &[u64], w: usize| (v[w] >> bit & 1) as i32;
                    let (x1, z1, x2, z2) = (get(a, i), get(a, chunk + i), get(b, i), get(b, chunk + i));
                    // X·Y, Y·Z, Z·X give i, the other way round -i.
                    k += match (x1, z1) {
                        (1, 1) => z2 - x2,
                        (1, 0) => z2 * (2 * x2 - 1),
                        (0, 1) => x2 * (1 - 2 * z2),
                        _ => 0,
                    };
                }
                a[i] ^= b[i];
                a[chunk + i] ^= b[chunk + i];
            }
        }
        k.rem_euclid(4) as u8
    }

    #[test]
    fn products_are_the_slow_ones_at_each_level() {
        for (chunk, chunks) in [(1, 1), (2, 1), (4, 1), (8, 1), (8, 3)] {
            let (a, b) = (words(1, 2 * chunk * chunks), words(2, 2 * chunk * chunks));
            let mut slow = a.clone();
            let k = slow_multiply(&mut slow, &b, chunk);
            at_each_level(|level| {
                let mut fast = a.clone();
                assert_eq!(multiply(&mut fast, &b, chunk), k, "{level:?}, {chunks} chunks of {chunk}");
                assert_eq!(fast, slow);
            });
        }
    }

    /// The two ways to fold, on rows that both can take.
    #[test]
    fn folds_in_registers_and_in_memory_agree_at_each_level() {
        for chunks in [1, 2] {
            let length = 16 * chunks;
            let folds: Vec<Fold> = words(9, 40)
                .iter()
                .map(|w| {
                    let before = [AxisPermutation::Identity, AxisPermutation::H, AxisPermutation::S][*w as usize % 3];
                    let d = (w >> 16) as usize % (512 * chunks);
                    Fold::new(before, w >> 8 & 1 == 1, (0, chunks as u32), d, 8, w >> 40 & 1 == 1)
                })
                .collect();
            let mut strings = words(10, length * folds.len());
            for (f, r) in folds.iter().zip(strings.chunks_exact_mut(length)) {
                r[f.word as usize] &= !f.bit;
                r[f.word as usize + 8] &= !f.bit;
            }
            for seed in 0..50 {
                let (mut slow, mut negative) = (words(seed, length), false);
                let row = Row { bits: &mut slow, negative: &mut negative, span: &mut (0, chunks as u32) };
                fold_in_memory(Narrow::<8>, row, &folds, &strings);
                at_each_level(|level| {
                    let (mut fast, mut minus) = (words(seed, length), false);
                    let mut span = (0, chunks as u32);
                    fold([Row { bits: &mut fast, negative: &mut minus, span: &mut span }], &folds, &strings, 8);
                    assert_eq!((&fast, minus), (&slow, negative), "{level:?}");
                    // Beside another row.
                    let (mut fast, mut minus) = ([words(seed + 1, length), words(seed, length)], [true, false]);
                    let mut spans = [span; 2];
                    let [(b0, n0, s0), (b1, n1, s1)] = {
                        let ([b0, b1], [n0, n1], [s0, s1]) = (&mut fast, &mut minus, &mut spans);
                        [(b0, n0, s0), (b1, n1, s1)]
                    };
                    let first = Row { bits: b0, negative: n0, span: s0 };
                    fold([first, Row { bits: b1, negative: n1, span: s1 }], &folds, &strings, 8);
                    assert_eq!((&fast[1], minus[1]), (&slow, negative), "{level:?}");
                });
            }
        }
    }
}
