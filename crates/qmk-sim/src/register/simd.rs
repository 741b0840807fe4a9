//! Eight lanes of f64 in three instruction sets, chosen at run time. The only unsafe code of the crate.
//!
//! Every operation is exactly rounded and lane by lane, so that all levels give the same bits.
#![allow(unsafe_code)]

/// Lanes of a [`Chunk`].
pub(super) const LANES: usize = 8;

/// Eight consecutive values, one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Chunk(pub(super) [f64; LANES]);

impl Chunk {
    #[inline]
    pub(super) fn splat(v: f64) -> Self {
        Chunk([v; LANES])
    }

    #[inline]
    pub(super) fn from_fn(f: impl FnMut(usize) -> f64) -> Self {
        Chunk(std::array::from_fn(f))
    }

    /// The sum of the lanes in a fixed order.
    #[inline]
    pub(super) fn sum(self) -> f64 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// An instruction set; a value is proof that the machine has it.
pub(super) trait Simd: Copy {
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
}

/// Work that is compiled once per instruction set. `run` must be `#[inline(always)]`.
pub(super) trait Kernel {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

#[derive(Clone, Copy)]
pub(super) struct Portable;

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
    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

/// A level to run kernels at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
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
            let avx512 = avx2 && is_x86_feature_detected!("avx512f");
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
pub(super) fn at_each_level(mut f: impl FnMut(Level)) {
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
    Level::available().next_back().expect("the portable level is always there")
}

/// Runs a kernel at the best level.
#[inline]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
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
    use super::{Chunk, Kernel, Simd};
    use std::arch::x86_64::*;

    #[inline(never)]
    #[target_feature(enable = "avx2,fma,popcnt,bmi1,bmi2")]
    pub(super) fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx2,fma,popcnt,bmi1,bmi2")]
    pub(super) fn avx512<K: Kernel>(kernel: K) -> K::Output {
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
            let v = if swap { [v[1], v[0]] } else { v };
            unsafe { v.map(|v| _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(_mm256_castpd_si256(v), within))) }
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
        #[inline(always)]
        fn call<K: Kernel>(self, kernel: K) -> K::Output {
            unsafe { avx512(kernel) }
        }
    }
}
