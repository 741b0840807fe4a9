//! Inverse tableau of a Clifford: for every physical qubit q the Pauli strings `U†X_qU` and `U†Z_qU` over virtual qubits.
//!
//! Gates on the physical side are row operations; Cliffords folded in on the virtual side are column
//! operations. Strings are Hermitian: a bit pair (x, z) = (1, 1) is Y, and a string has a sign.

use qmk_abi::image::Pauli;

/// A signed Hermitian Pauli string, bit-packed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PauliString {
    /// X bits, 64 qubits to a word.
    pub x: Vec<u64>,
    /// Z bits.
    pub z: Vec<u64>,
    /// True for a minus sign.
    pub negative: bool,
}

impl PauliString {
    /// The identity on `words * 64` qubits.
    pub fn identity(words: usize) -> Self {
        PauliString { x: vec![0; words], z: vec![0; words], negative: false }
    }

    /// Multiplies by `i^phase · P` from the right. The product must be Hermitian.
    fn mul(&mut self, x: &[u64], z: &[u64], negative: bool, phase: u8) {
        let k = phase.wrapping_add(2 * (self.negative as u8 + negative as u8)).wrapping_add(mul_into(
            &mut self.x,
            &mut self.z,
            x,
            z,
        ));
        debug_assert!(k & 1 == 0);
        self.negative = k & 2 != 0;
    }
}

/// `(x1, z1) := (x1, z1) · (x2, z2)`; returns k with product = i^k × the Hermitian string left behind.
///
/// Counts, bit by bit and modulo 4, the i's of the qubit-wise products (XY = iZ and so on): `one` and `two` are
/// the low and high bits of 64 two-bit counters.
#[inline]
fn mul_into(x1: &mut [u64], z1: &mut [u64], x2: &[u64], z2: &[u64]) -> u8 {
    let (mut one, mut two) = (0u64, 0u64);
    for (((x1, z1), &x2), &z2) in x1.iter_mut().zip(z1.iter_mut()).zip(x2).zip(z2) {
        let x1z2 = *x1 & z2;
        let anti = (x2 & *z1) ^ x1z2;
        *x1 ^= x2;
        *z1 ^= z2;
        two ^= (one ^ *x1 ^ *z1 ^ x1z2) & anti;
        one ^= anti;
    }
    (one.count_ones() as u8).wrapping_add((two.count_ones() as u8).wrapping_mul(2)) & 3
}

/// Whether two strings anticommute.
#[inline]
pub(crate) fn anticommute(x1: &[u64], z1: &[u64], x2: &[u64], z2: &[u64]) -> bool {
    let mut acc = 0u64;
    for (((x1, z1), x2), z2) in x1.iter().zip(z1).zip(x2).zip(z2) {
        acc ^= (x1 & z2) ^ (z1 & x2);
    }
    acc.count_ones() & 1 == 1
}

/// Inverse tableau of an n-qubit Clifford.
#[derive(Clone, Debug)]
pub struct Tableau {
    n: usize,
    words: usize,
    /// Row r is `x[r * words ..]`, `z[r * words ..]`; row 2q is `U†X_qU`, row 2q+1 is `U†Z_qU`.
    x: Vec<u64>,
    z: Vec<u64>,
    negative: Vec<bool>,
}

impl Tableau {
    /// The identity on n qubits.
    pub fn new(n: usize) -> Self {
        let words = n.div_ceil(64).max(1);
        let mut t =
            Tableau { n, words, x: vec![0; 2 * n * words], z: vec![0; 2 * n * words], negative: vec![false; 2 * n] };
        for q in 0..n {
            t.x[2 * q * words + q / 64] = 1 << (q % 64);
            t.z[(2 * q + 1) * words + q / 64] = 1 << (q % 64);
        }
        t
    }

    /// Number of qubits.
    pub fn qubits(&self) -> usize {
        self.n
    }

    /// Words per bit row.
    pub fn words(&self) -> usize {
        self.words
    }

    /// The same Clifford on more qubits.
    pub fn grow(&mut self, n: usize) {
        let mut t = Tableau::new(n);
        for r in 0..2 * self.n {
            t.x[r * t.words..][..self.words].copy_from_slice(&self.x[r * self.words..][..self.words]);
            t.z[r * t.words..][..self.words].copy_from_slice(&self.z[r * self.words..][..self.words]);
            t.negative[r] = self.negative[r];
        }
        *self = t;
    }

    fn range(&self, row: usize) -> core::ops::Range<usize> {
        row * self.words..(row + 1) * self.words
    }

    /// Row `to` := i^phase · row `to` · row `from`.
    fn mul_row(&mut self, to: usize, from: usize, phase: u8) {
        let w = self.words;
        let (x1, x2) = two_rows(&mut self.x, to, from, w);
        let (z1, z2) = two_rows(&mut self.z, to, from, w);
        let k = phase
            .wrapping_add(2 * (self.negative[to] as u8 + self.negative[from] as u8))
            .wrapping_add(mul_into(x1, z1, x2, z2));
        debug_assert!(k & 1 == 0);
        self.negative[to] = k & 2 != 0;
    }

    fn swap_rows(&mut self, a: usize, b: usize) {
        let w = self.words;
        let (xa, xb) = two_rows(&mut self.x, a, b, w);
        xa.swap_with_slice(xb);
        let (za, zb) = two_rows(&mut self.z, a, b, w);
        za.swap_with_slice(zb);
        self.negative.swap(a, b);
    }

    /// U := P_q U.
    pub fn pauli(&mut self, p: Pauli, q: usize) {
        self.negative[2 * q] ^= p != Pauli::X;
        self.negative[2 * q + 1] ^= p != Pauli::Z;
    }

    /// U := H_q U.
    pub fn h(&mut self, q: usize) {
        self.swap_rows(2 * q, 2 * q + 1);
    }

    /// U := S_q U, or its inverse.
    pub fn s(&mut self, q: usize, inverse: bool) {
        // S†XS = -Y = -iXZ.
        self.mul_row(2 * q, 2 * q + 1, if inverse { 1 } else { 3 });
    }

    /// U := √X_q U, or its inverse.
    pub fn sx(&mut self, q: usize, inverse: bool) {
        // √X† Z √X = -iZX.
        self.mul_row(2 * q + 1, 2 * q, if inverse { 1 } else { 3 });
    }

    /// U := CNOT(c, t) U.
    pub fn cnot(&mut self, c: usize, t: usize) {
        self.mul_row(2 * c, 2 * t, 0);
        self.mul_row(2 * t + 1, 2 * c + 1, 0);
    }

    /// U := CZ(a, b) U.
    pub fn cz(&mut self, a: usize, b: usize) {
        self.mul_row(2 * a, 2 * b + 1, 0);
        self.mul_row(2 * b, 2 * a + 1, 0);
    }

    /// U := SWAP(a, b) U.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.swap_rows(2 * a, 2 * b);
        self.swap_rows(2 * a + 1, 2 * b + 1);
    }

    /// `U† P U` for a product of one-qubit Paulis on distinct qubits.
    pub fn pull_back(&self, factors: &[(Pauli, usize)], out: &mut PauliString) {
        out.x.clear();
        out.x.resize(self.words, 0);
        out.z.clear();
        out.z.resize(self.words, 0);
        out.negative = false;
        // Y = iXZ; its two rows anticommute, so both go in before the sign is read off.
        for &(p, q) in factors {
            let mut factor = PauliString::identity(0);
            let row = if p == Pauli::Z { 2 * q + 1 } else { 2 * q };
            let r = self.range(row);
            if p == Pauli::Y {
                factor.x.extend_from_slice(&self.x[r.clone()]);
                factor.z.extend_from_slice(&self.z[r]);
                factor.negative = self.negative[row];
                let zr = self.range(row + 1);
                factor.mul(&self.x[zr.clone()], &self.z[zr], self.negative[row + 1], 1);
                out.mul(&factor.x, &factor.z, factor.negative, 0);
            } else {
                out.mul(&self.x[r.clone()], &self.z[r], self.negative[row], 0);
            }
        }
    }

    /// The physical Pauli `U X_v U†`, up to sign: calls `each(q, x, z)` for every qubit it acts on.
    pub fn push_forward_x(&self, v: usize, mut each: impl FnMut(usize, bool, bool)) {
        let (word, bit) = (v / 64, v % 64);
        for q in 0..self.n {
            // It anticommutes with X_q (has Z on q) iff U†X_qU has Z on v.
            let z = self.z[2 * q * self.words + word] >> bit & 1 == 1;
            let x = self.z[(2 * q + 1) * self.words + word] >> bit & 1 == 1;
            if x || z {
                each(q, x, z);
            }
        }
    }

    /// U := U · S_d.
    fn fold_s(&mut self, d: usize) {
        let (word, bit) = (d / 64, 1u64 << (d % 64));
        for r in 0..2 * self.n {
            let i = r * self.words + word;
            if self.x[i] & bit != 0 {
                // S†XS = -Y, S†YS = X.
                self.negative[r] ^= self.z[i] & bit == 0;
                self.z[i] ^= bit;
            }
        }
    }

    /// U := U · H_d.
    fn fold_h(&mut self, d: usize) {
        let (word, bit) = (d / 64, 1u64 << (d % 64));
        for r in 0..2 * self.n {
            let i = r * self.words + word;
            let (x, z) = (self.x[i] & bit, self.z[i] & bit);
            self.negative[r] ^= x & z != 0;
            self.x[i] ^= x ^ z;
            self.z[i] ^= x ^ z;
        }
    }

    /// U := U · CNOT(c, t), virtual qubits.
    pub fn fold_cnot(&mut self, c: usize, t: usize) {
        for r in 0..2 * self.n {
            let (ci, ti) = (r * self.words + c / 64, r * self.words + t / 64);
            let xc = self.x[ci] >> (c % 64) & 1;
            let zt = self.z[ti] >> (t % 64) & 1;
            let xt = self.x[ti] >> (t % 64) & 1;
            let zc = self.z[ci] >> (c % 64) & 1;
            self.negative[r] ^= xc & zt & (xt ^ zc ^ 1) == 1;
            self.x[ti] ^= xc << (t % 64);
            self.z[ci] ^= zt << (c % 64);
        }
    }

    /// Given Q with X or Y on virtual qubit d, folds `V = [S_d] · (R controlled by d) · [H_d]` into U on the right, where Q
    /// becomes `X_d R` after the S (present if Q has Y on d). `hadamard` says whether to fold the H.
    /// On return Q is consumed: it holds R.
    pub fn fold_controlled(&mut self, q: &mut PauliString, d: usize, hadamard: bool) {
        let (word, bit) = (d / 64, 1u64 << (d % 64));
        debug_assert!(q.x[word] & bit != 0);
        if q.z[word] & bit != 0 {
            // S†YS = X: no sign.
            self.fold_s(d);
            q.z[word] ^= bit;
        }
        q.x[word] ^= bit;
        let w = self.words;
        for r in 0..2 * self.n {
            let (x, z) = (&mut self.x[r * w..(r + 1) * w], &mut self.z[r * w..(r + 1) * w]);
            if x[word] & bit == 0 {
                if anticommute(x, z, &q.x, &q.z) {
                    z[word] ^= bit;
                }
                continue;
            }
            // Row = X_d T or Y_d T. R·T = i^k × Hermitian; k is odd iff they anticommute, and then X_d T becomes
            // Y_d (-iRT) and Y_d T becomes -X_d (-iRT).
            let y = z[word] & bit != 0;
            let k = row_times(x, z, q).wrapping_add(2 * (self.negative[r] as u8 + q.negative as u8)) & 3;
            if k & 1 == 1 {
                z[word] ^= bit;
                self.negative[r] = (k == 3) ^ y;
            } else {
                self.negative[r] = k == 2;
            }
        }
        if hadamard {
            self.fold_h(d);
        }
    }
}

/// (x, z) := R · (x, z), returning the power of i.
fn row_times(x: &mut [u64], z: &mut [u64], r: &PauliString) -> u8 {
    // R·T = (T·R)† for Hermitian factors, so its power of i is minus that of T·R.
    4 - mul_into(x, z, &r.x, &r.z)
}

/// Mutable views of two distinct rows.
fn two_rows(v: &mut [u64], a: usize, b: usize, w: usize) -> (&mut [u64], &mut [u64]) {
    if a < b {
        let (lo, hi) = v.split_at_mut(b * w);
        (&mut lo[a * w..(a + 1) * w], &mut hi[..w])
    } else {
        let (lo, hi) = v.split_at_mut(a * w);
        (&mut hi[..w], &mut lo[b * w..(b + 1) * w])
    }
}
