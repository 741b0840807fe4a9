//! Eight lanes of f64 or u64 in three instruction sets, chosen at run time. The only unsafe code of the crate.
//!
//! Every operation is exactly rounded and lane by lane, so that all levels give the same bits.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Lanes of a [`Chunk`].
pub(crate) const LANES: usize = 8;

/// Eight consecutive values, one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Chunk(pub(crate) [f64; LANES]);

impl Chunk {
    #[inline]
    pub(crate) fn splat(v: f64) -> Self {
        Chunk([v; LANES])
    }

    #[inline]
    pub(crate) fn from_fn(f: impl FnMut(usize) -> f64) -> Self {
        Chunk(std::array::from_fn(f))
    }

    /// The sum of the lanes in a fixed order.
    #[inline]
    pub(crate) fn sum(self) -> f64 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// An instruction set; a value is proof that the machine has it.
pub(crate) trait Simd: Copy {
    /// Eight values in registers.
    type V: Copy;
    /// A lane permutation `i -> i ^ x`.
    type Permutation: Copy;
    fn load(self, from: &Chunk) -> Self::V;
    fn store(self, v: Self::V, to: &mut Chunk);
    fn splat(self, v: f64) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn permutation(self, x: usize) -> Self::Permutation;
    fn permute(self, v: Self::V, p: Self::Permutation) -> Self::V;
    /// Runs a kernel as a function of its own: the compiler does better on small ones.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// Whether there are 32 vector registers, not 16.
    const MANY: bool;
    /// Eight words in registers.
    type W: Copy;
    fn load_words(self, from: &[u64; LANES]) -> Self::W;
    fn store_words(self, v: Self::W, to: &mut [u64; LANES]);
    fn splat_words(self, v: u64) -> Self::W;
    fn and(self, a: Self::W, b: Self::W) -> Self::W;
    fn xor(self, a: Self::W, b: Self::W) -> Self::W;
    /// `a + 2 b` modulo 4, where a and b are the numbers of bits set.
    fn count(self, a: Self::W, b: Self::W) -> u8;
    /// Whether any bit is set.
    fn any(self, a: Self::W) -> bool;
}

/// `count` by adding the words' two-bit counters before counting bits.
#[inline(always)]
fn count_words(a: [u64; LANES], b: [u64; LANES]) -> u8 {
    let (mut low, mut high) = (0, 0);
    for (a, b) in a.into_iter().zip(b) {
        high ^= b ^ (low & a);
        low ^= a;
    }
    (low.count_ones() + 2 * high.count_ones()) as u8 & 3
}

/// A function that is compiled once per instruction set. `run` must be `#[inline(always)]`, and so must every function
/// that it passes `s` to. Closures must not use `s`: a closure that is not inlined is compiled for no instruction set,
/// so each operation in it becomes a call, and the function takes ten times as long.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = Chunk;
    type Permutation = usize;

    #[inline(always)]
    fn load(self, from: &Chunk) -> Chunk {
        *from
    }
    #[inline(always)]
    fn store(self, v: Chunk, to: &mut Chunk) {
        *to = v;
    }
    #[inline(always)]
    fn splat(self, v: f64) -> Chunk {
        Chunk::splat(v)
    }
    #[inline(always)]
    fn mul(self, a: Chunk, b: Chunk) -> Chunk {
        Chunk::from_fn(|i| a.0[i] * b.0[i])
    }
    #[inline(always)]
    fn mul_add(self, a: Chunk, b: Chunk, c: Chunk) -> Chunk {
        Chunk::from_fn(|i| a.0[i].mul_add(b.0[i], c.0[i]))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Chunk, b: Chunk, c: Chunk) -> Chunk {
        Chunk::from_fn(|i| (-a.0[i]).mul_add(b.0[i], c.0[i]))
    }
    #[inline(always)]
    fn permutation(self, x: usize) -> usize {
        x % LANES
    }
    #[inline(always)]
    fn permute(self, v: Chunk, x: usize) -> Chunk {
        Chunk::from_fn(|i| v.0[(i ^ x) % LANES])
    }

    const MANY: bool = false;
    type W = [u64; LANES];
    #[inline(always)]
    fn load_words(self, from: &[u64; LANES]) -> Self::W {
        *from
    }
    #[inline(always)]
    fn store_words(self, v: Self::W, to: &mut [u64; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn splat_words(self, v: u64) -> Self::W {
        [v; LANES]
    }
    #[inline(always)]
    fn and(self, a: Self::W, b: Self::W) -> Self::W {
        std::array::from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn xor(self, a: Self::W, b: Self::W) -> Self::W {
        std::array::from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn count(self, a: Self::W, b: Self::W) -> u8 {
        count_words(a, b)
    }
    #[inline(always)]
    fn any(self, a: Self::W) -> bool {
        a.into_iter().fold(0, |x, w| x | w) != 0
    }
    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

/// A level to run kernels at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The levels of this machine, slowest first.
    fn available() -> impl DoubleEndedIterator<Item = Level> {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2");
            let avx512 = avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq");
            [Some(Level::Portable), avx2.then_some(Level::Avx2), avx512.then_some(Level::Avx512)].into_iter().flatten()
        }
        #[cfg(not(target_arch = "x86_64"))]
        [Level::Portable].into_iter()
    }
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Level>> = const { std::cell::Cell::new(None) };
}

/// Runs `f` once at each level of this machine.
#[cfg(test)]
pub(crate) fn at_each_level(mut f: impl FnMut(Level)) {
    for level in Level::available() {
        FORCED.set(Some(level));
        f(level);
    }
    FORCED.set(None);
}

#[inline]
fn level() -> Level {
    #[cfg(test)]
    if let Some(level) = FORCED.get() {
        return level;
    }
    static BEST: OnceLock<Level> = OnceLock::new();
    *BEST.get_or_init(|| Level::available().next_back().expect("the portable level is always there"))
}

/// Runs a kernel at the best level.
#[inline]
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        Level::Portable => kernel.run(Portable),
        // SAFETY: a level is only had from `Level::available`, which has seen the features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::avx512(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Chunk, Kernel, LANES, Simd};
    use std::arch::x86_64::*;

    #[inline(never)]
    #[target_feature(enable = "avx2,fma,popcnt,bmi1,bmi2")]
    pub(crate) fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512vpopcntdq,avx2,fma,popcnt,bmi1,bmi2")]
    pub(crate) fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512(()))
    }

    // The unit fields are private to this module: the tokens are made above only, where the features are on.

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    // SAFETY of every block below: a token exists only inside `avx2`, so the features are there; loads and stores
    // go through references to 64 aligned bytes.
    impl Simd for Avx2 {
        type V = [__m256d; 2];
        /// Whether the halves swap, and the permutation of each.
        type Permutation = (bool, __m256i);

        #[inline(always)]
        fn load(self, from: &Chunk) -> Self::V {
            unsafe { [_mm256_load_pd(from.0.as_ptr()), _mm256_load_pd(from.0.as_ptr().add(4))] }
        }
        #[inline(always)]
        fn store(self, v: Self::V, to: &mut Chunk) {
            unsafe {
                _mm256_store_pd(to.0.as_mut_ptr(), v[0]);
                _mm256_store_pd(to.0.as_mut_ptr().add(4), v[1]);
            }
        }
        #[inline(always)]
        fn splat(self, v: f64) -> Self::V {
            unsafe { [_mm256_set1_pd(v); 2] }
        }
        #[inline(always)]
        fn mul(self, a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_mul_pd(a[0], b[0]), _mm256_mul_pd(a[1], b[1])] }
        }
        #[inline(always)]
        fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { [_mm256_fmadd_pd(a[0], b[0], c[0]), _mm256_fmadd_pd(a[1], b[1], c[1])] }
        }
        #[inline(always)]
        fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { [_mm256_fnmadd_pd(a[0], b[0], c[0]), _mm256_fnmadd_pd(a[1], b[1], c[1])] }
        }
        #[inline(always)]
        fn permutation(self, x: usize) -> Self::Permutation {
            let i: [i32; 8] = std::array::from_fn(|i| (i ^ (x & 3) << 1) as i32);
            unsafe { (x & 4 != 0, _mm256_setr_epi32(i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7])) }
        }
        #[inline(always)]
        fn permute(self, v: Self::V, (swap, within): Self::Permutation) -> Self::V {
            let [a, b] = if swap { [v[1], v[0]] } else { v };
            unsafe {
                let a = _mm256_permutevar8x32_epi32(_mm256_castpd_si256(a), within);
                let b = _mm256_permutevar8x32_epi32(_mm256_castpd_si256(b), within);
                [_mm256_castsi256_pd(a), _mm256_castsi256_pd(b)]
            }
        }

        const MANY: bool = false;
        type W = [__m256i; 2];
        #[inline(always)]
        fn load_words(self, from: &[u64; LANES]) -> Self::W {
            let p = from.as_ptr().cast::<__m256i>();
            unsafe { [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))] }
        }
        #[inline(always)]
        fn store_words(self, v: Self::W, to: &mut [u64; LANES]) {
            let p = to.as_mut_ptr().cast::<__m256i>();
            unsafe {
                _mm256_storeu_si256(p, v[0]);
                _mm256_storeu_si256(p.add(1), v[1]);
            }
        }
        #[inline(always)]
        fn splat_words(self, v: u64) -> Self::W {
            unsafe { [_mm256_set1_epi64x(v as i64); 2] }
        }
        #[inline(always)]
        fn and(self, a: Self::W, b: Self::W) -> Self::W {
            unsafe { [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])] }
        }
        #[inline(always)]
        fn xor(self, a: Self::W, b: Self::W) -> Self::W {
            unsafe { [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])] }
        }
        #[inline(always)]
        fn count(self, a: Self::W, b: Self::W) -> u8 {
            // Halved until one word is left.
            unsafe {
                let low = _mm256_xor_si256(a[0], a[1]);
                let high = _mm256_xor_si256(_mm256_xor_si256(b[0], b[1]), _mm256_and_si256(a[0], a[1]));
                let low = [_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)];
                let high = [_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)];
                let carry = _mm_and_si128(low[0], low[1]);
                let (low, high) =
                    (_mm_xor_si128(low[0], low[1]), _mm_xor_si128(_mm_xor_si128(high[0], high[1]), carry));
                let low = [_mm_cvtsi128_si64(low), _mm_extract_epi64(low, 1)];
                let high = [_mm_cvtsi128_si64(high), _mm_extract_epi64(high, 1)];
                let (low, high) = (low[0] ^ low[1], high[0] ^ high[1] ^ (low[0] & low[1]));
                (low.count_ones() + 2 * high.count_ones()) as u8 & 3
            }
        }
        #[inline(always)]
        fn any(self, a: Self::W) -> bool {
            unsafe {
                let a = _mm256_or_si256(a[0], a[1]);
                _mm256_testz_si256(a, a) == 0
            }
        }
        #[inline(always)]
        fn call<K: Kernel>(self, kernel: K) -> K::Output {
            unsafe { avx2(kernel) }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    // SAFETY: as for `Avx2`, with `avx512`.
    impl Simd for Avx512 {
        type V = __m512d;
        type Permutation = __m512i;

        #[inline(always)]
        fn load(self, from: &Chunk) -> Self::V {
            unsafe { _mm512_load_pd(from.0.as_ptr()) }
        }
        #[inline(always)]
        fn store(self, v: Self::V, to: &mut Chunk) {
            unsafe { _mm512_store_pd(to.0.as_mut_ptr(), v) }
        }
        #[inline(always)]
        fn splat(self, v: f64) -> Self::V {
            unsafe { _mm512_set1_pd(v) }
        }
        #[inline(always)]
        fn mul(self, a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_mul_pd(a, b) }
        }
        #[inline(always)]
        fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm512_fmadd_pd(a, b, c) }
        }
        #[inline(always)]
        fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm512_fnmadd_pd(a, b, c) }
        }
        #[inline(always)]
        fn permutation(self, x: usize) -> Self::Permutation {
            let i: [i64; 8] = std::array::from_fn(|i| ((i ^ x) % 8) as i64);
            unsafe { _mm512_setr_epi64(i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7]) }
        }
        #[inline(always)]
        fn permute(self, v: Self::V, p: Self::Permutation) -> Self::V {
            unsafe { _mm512_permutexvar_pd(p, v) }
        }

        const MANY: bool = true;
        type W = __m512i;
        #[inline(always)]
        fn load_words(self, from: &[u64; LANES]) -> Self::W {
            unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
        }
        #[inline(always)]
        fn store_words(self, v: Self::W, to: &mut [u64; LANES]) {
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) }
        }
        #[inline(always)]
        fn splat_words(self, v: u64) -> Self::W {
            unsafe { _mm512_set1_epi64(v as i64) }
        }
        #[inline(always)]
        fn and(self, a: Self::W, b: Self::W) -> Self::W {
            unsafe { _mm512_and_si512(a, b) }
        }
        #[inline(always)]
        fn xor(self, a: Self::W, b: Self::W) -> Self::W {
            unsafe { _mm512_xor_si512(a, b) }
        }
        #[inline(always)]
        fn count(self, a: Self::W, b: Self::W) -> u8 {
            unsafe {
                let (a, b) = (_mm512_popcnt_epi64(a), _mm512_popcnt_epi64(b));
                _mm512_reduce_add_epi64(_mm512_add_epi64(a, _mm512_add_epi64(b, b))) as u8 & 3
            }
        }
        #[inline(always)]
        fn any(self, a: Self::W) -> bool {
            unsafe { _mm512_test_epi64_mask(a, a) != 0 }
        }
        #[inline(always)]
        fn call<K: Kernel>(self, kernel: K) -> K::Output {
            unsafe { avx512(kernel) }
        }
    }
}
