//! Bit kernels of the tableau: products and anticommutation of Pauli strings, 64 qubits to a word.
//!
//! A string is stored in chunks of C words of X bits followed by C words of Z bits, so that any run of chunks is
//! contiguous and a chunk of eight words fills a vector register. Strings of up to 256 qubits have one chunk of 1, 2 or 4
//! words. The functions that matter are compiled for several instruction sets and chosen at run time.

use multiversion::multiversion;

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
        1 => multiply_chunks::<1>(a, b),
        2 => multiply_chunks::<2>(a, b),
        4 => multiply_chunks::<4>(a, b),
        _ => multiply_wide(a, b),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vpopcntdq+popcnt", "x86_64+avx2+popcnt"))]
fn multiply_wide(a: &mut [u64], b: &[u64]) -> u8 {
    multiply_chunks::<8>(a, b)
}

/// Counts, bit by bit and modulo 4, the i's of the qubit-wise products (XY = iZ and so on): `one` and `two` are the low
/// and high bits of two-bit counters.
#[inline(always)]
fn multiply_chunks<const C: usize>(a: &mut [u64], b: &[u64]) -> u8 {
    let (mut one, mut two) = ([0u64; C], [0u64; C]);
    for (a, b) in a.chunks_exact_mut(2 * C).zip(b.chunks_exact(2 * C)) {
        let (xa, za) = a.split_at_mut(C);
        let (xb, zb) = b.split_at(C);
        for i in 0..C {
            let (x1, z1, x2, z2) = (xa[i], za[i], xb[i], zb[i]);
            let x1z2 = x1 & z2;
            let anti = (x2 & z1) ^ x1z2;
            let (x, z) = (x1 ^ x2, z1 ^ z2);
            (xa[i], za[i]) = (x, z);
            two[i] ^= (one[i] ^ x ^ z ^ x1z2) & anti;
            one[i] ^= anti;
        }
    }
    let count = |v: &[u64; C]| v.iter().map(|w| w.count_ones()).sum::<u32>();
    (count(&one) + 2 * count(&two)) as u8 & 3
}

/// Whether two strings anticommute.
#[inline(always)]
fn anticommute<const C: usize>(a: &[u64], b: &[u64]) -> bool {
    let mut acc = [0u64; C];
    for (a, b) in a.chunks_exact(2 * C).zip(b.chunks_exact(2 * C)) {
        for i in 0..C {
            acc[i] ^= (a[i] & b[C + i]) ^ (a[C + i] & b[i]);
        }
    }
    acc.iter().fold(0, |x, w| x ^ w).count_ones() & 1 == 1
}

/// A one-qubit Clifford on a virtual qubit that precedes or follows a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    None,
    H,
    S,
}

/// A Clifford to fold into rows on the virtual side: `before`, then "R controlled by d", then H if `hadamard`, all on
/// virtual qubit d.
pub(crate) struct Fold<'a> {
    pub(crate) before: Turn,
    /// R, without anything on d, over all chunks.
    pub(crate) r: &'a [u64],
    pub(crate) negative: bool,
    /// Chunks that hold R, and the one that holds d.
    pub(crate) span: (u32, u32),
    /// Position of d's X word in a row, and its bit.
    pub(crate) word: usize,
    pub(crate) bit: u64,
    pub(crate) hadamard: bool,
}

/// The bit rows of a tableau.
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a mut [u64],
    pub(crate) negative: &'a mut [bool],
    /// Chunks outside of which a row is zero.
    pub(crate) span: &'a mut [(u32, u32)],
    pub(crate) live: &'a [u32],
    pub(crate) stride: usize,
    pub(crate) chunk: usize,
}

pub(crate) fn fold(rows: Rows<'_>, f: &Fold<'_>) {
    match rows.chunk {
        1 => fold_small::<1>(rows, f),
        2 => fold_small::<2>(rows, f),
        4 => fold_small::<4>(rows, f),
        _ => fold_wide(rows, f),
    }
}

fn fold_small<const C: usize>(rows: Rows<'_>, f: &Fold<'_>) {
    fold_chunks::<C>(rows, f);
}

#[multiversion(targets("x86_64+avx512f+avx512vpopcntdq+popcnt", "x86_64+avx2+popcnt"))]
fn fold_wide(rows: Rows<'_>, f: &Fold<'_>) {
    fold_chunks::<8>(rows, f);
}

#[inline(always)]
fn fold_chunks<const C: usize>(rows: Rows<'_>, f: &Fold<'_>) {
    let Rows { data, negative, span, live, stride, .. } = rows;
    let home = (f.word / (2 * C)) as u32;
    for &r in live {
        let r = r as usize;
        let (lo, hi) = span[r];
        let at_home = lo <= home && home < hi;
        // Where both are not zero.
        let (from, to) = (lo.max(f.span.0), hi.min(f.span.1));
        if !at_home && from >= to {
            continue;
        }
        let row = &mut data[r * stride..(r + 1) * stride];
        let (xi, zi) = (f.word, f.word + C);
        let (mut x, mut z) = if at_home { (row[xi] & f.bit, row[zi] & f.bit) } else { (0, 0) };
        match f.before {
            Turn::None => {}
            Turn::H => {
                negative[r] ^= x & z != 0;
                (x, z) = (z, x);
            }
            Turn::S => {
                // S†XS = -Y, S†YS = X.
                if x != 0 {
                    negative[r] ^= z == 0;
                    z ^= f.bit;
                }
            }
        }
        let both = from as usize * 2 * C..to.max(from) as usize * 2 * C;
        if x == 0 {
            if anticommute::<C>(&row[both.clone()], &f.r[both]) {
                z ^= f.bit;
            }
        } else {
            // Row = X_d T or Y_d T. R·T = i^k × Hermitian; k is odd iff they anticommute, and then X_d T becomes
            // Y_d (-iRT) and Y_d T becomes -X_d (-iRT). R·T = (T·R)†, so its power of i is minus that of T·R.
            let (lo, hi) = (lo.min(f.span.0), hi.max(f.span.1));
            span[r] = (lo, hi);
            let range = f.span.0 as usize * 2 * C..f.span.1 as usize * 2 * C;
            let k = 4 - multiply_chunks::<C>(&mut row[range.clone()], &f.r[range]);
            let k = k.wrapping_add(2 * (negative[r] as u8 + f.negative as u8)) & 3;
            if k & 1 == 1 {
                negative[r] = (k == 3) ^ (z != 0);
                z ^= f.bit;
            } else {
                negative[r] = k == 2;
            }
        }
        if f.hadamard {
            negative[r] ^= x & z != 0;
            (x, z) = (z, x);
        }
        if at_home || x | z != 0 {
            row[xi] = row[xi] & !f.bit | x;
            row[zi] = row[zi] & !f.bit | z;
            let (lo, hi) = span[r];
            span[r] = (lo.min(home), hi.max(home + 1));
        }
    }
}
