//! Inverse tableau of a Clifford U: for every physical qubit q, two of the three Pauli strings `U†X_qU`, `U†Y_qU`,
//! `U†Z_qU` over virtual qubits.
//!
//! Gates on the physical side are row operations; Cliffords folded in on the virtual side are column operations.
//! Strings are Hermitian: a bit pair (x, z) = (1, 1) is Y, and a string has a sign. Which two strings are stored is
//! free, so a one-qubit Clifford only renames them. Column operations are logged and reach a row when it is next looked
//! at, many at a time; a row that is not looked at again never pays for them.

use super::bits::{AxisPermutation, Fold, Row, anticommute, chunk_words, fold, multiply};
use qmk_abi::image::{Clifford1, Clifford2, Pauli};

/// A signed Hermitian Pauli string in the layout of a tableau's rows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct PauliString {
    pub(crate) bits: Vec<u64>,
    pub(crate) negative: bool,
    /// Chunks outside of which it is the identity.
    pub(crate) span: (u32, u32),
    chunk: usize,
}

impl PauliString {
    /// Position of the X word of word w; the Z word is `chunk` further.
    #[inline]
    fn at(&self, word: usize) -> usize {
        word / self.chunk * 2 * self.chunk + word % self.chunk
    }

    #[inline]
    pub(crate) fn x(&self, v: usize) -> bool {
        self.bits[self.at(v / 64)] >> (v % 64) & 1 == 1
    }

    #[inline]
    pub(crate) fn z(&self, v: usize) -> bool {
        self.bits[self.at(v / 64) + self.chunk] >> (v % 64) & 1 == 1
    }

    /// `(word number, X bits, Z bits)` where it is not zero by its span.
    #[inline]
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, u64, u64)> + '_ {
        let c = self.chunk;
        (self.span.0 as usize..self.span.1 as usize).flat_map(move |k| {
            let chunk = &self.bits[2 * c * k..2 * c * (k + 1)];
            (0..c).map(move |i| (k * c + i, chunk[i], chunk[c + i]))
        })
    }

    /// X and Z on qubit v of a string in this layout.
    pub(crate) fn letter(&self, bits: &[u64], v: usize) -> (bool, bool) {
        let at = self.at(v / 64);
        (bits[at] >> (v % 64) & 1 == 1, bits[at + self.chunk] >> (v % 64) & 1 == 1)
    }

    pub(crate) fn anticommutes(&self, bits: &[u64]) -> bool {
        self.anticommute(&self.bits, bits)
    }

    /// Whether two strings in this layout anticommute.
    pub(crate) fn anticommute(&self, a: &[u64], b: &[u64]) -> bool {
        anticommute(a, b, self.chunk)
    }

    /// Whether this string's Z's outside of `active` anticommute with a string.
    pub(crate) fn dormant_z_anticommutes(&self, bits: &[u64], active: &[u64]) -> bool {
        self.words().fold(0, |p, (w, _, z)| p ^ (z & !active[w] & bits[self.at(w)])).count_ones() & 1 == 1
    }

    fn clear(&mut self, v: usize) {
        let (i, bit) = (self.at(v / 64), 1u64 << (v % 64));
        self.bits[i] &= !bit;
        self.bits[i + self.chunk] &= !bit;
    }
}

/// Names a string that a tableau keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackedPauli(u32);

/// Inverse tableau of an n-qubit Clifford.
#[derive(Clone, Debug)]
pub(crate) struct Tableau {
    n: usize,
    chunk: usize,
    stride: usize,
    /// Rows 2q and 2q+1 belong to qubit q; those from 2n on are tracked strings.
    data: Vec<u64>,
    negative: Vec<bool>,
    span: Vec<(u32, u32)>,
    /// Which Paulis of its qubit the two rows of a qubit are.
    label: Vec<[Pauli; 2]>,
    /// The log of folds, their R's, and how many of them each row has seen.
    folds: Vec<Fold>,
    strings: Vec<u64>,
    seen: Vec<u32>,
    /// Numbers of tracked strings that are free.
    vacant: Vec<TrackedPauli>,
}

/// In place of the number of folds seen: the row is not read again.
const RETIRED: u32 = u32::MAX;

/// For a ≠ b, the power of i by which ab must be multiplied to give the third Pauli c: ab = ic for (X,Y), (Y,Z), (Z,X),
/// else ab = -ic.
fn to_third(a: Pauli, b: Pauli) -> u8 {
    let cyclic = matches!((a, b), (Pauli::X, Pauli::Y) | (Pauli::Y, Pauli::Z) | (Pauli::Z, Pauli::X));
    if cyclic { 3 } else { 1 }
}

/// `g P g†` and whether it has a minus sign, by gate and Pauli. A table, since branches on the gates of a program are
/// predicted badly.
const CONJUGATE: [[(Pauli, bool); 3]; 5] = {
    use Pauli::{X, Y, Z};
    let mut table = [[(X, false), (Y, false), (Z, false)]; 5];
    table[Clifford1::H as usize] = [(Z, false), (Y, true), (X, false)];
    table[Clifford1::S as usize] = [(Y, false), (X, true), (Z, false)];
    table[Clifford1::Sdg as usize] = [(Y, true), (X, false), (Z, false)];
    table[Clifford1::Sx as usize] = [(X, false), (Z, false), (Y, true)];
    table[Clifford1::Sxdg as usize] = [(X, false), (Z, true), (Y, false)];
    table
};

/// Bytes of the tableau of n qubits: four blocks of n times n bits.
pub(crate) fn tableau_bytes(n: usize) -> u64 {
    let n = n.next_multiple_of(64) as u64;
    n * n / 2
}

impl Tableau {
    /// The identity on n qubits.
    pub(crate) fn new(n: usize) -> Self {
        let chunk = chunk_words(n);
        let chunks = n.div_ceil(64 * chunk).max(1);
        let stride = 2 * chunk * chunks;
        let mut t = Tableau {
            n,
            chunk,
            stride,
            data: vec![0; 2 * n * stride],
            negative: vec![false; 2 * n],
            span: Vec::with_capacity(2 * n),
            label: vec![[Pauli::X, Pauli::Z]; n],
            folds: Vec::new(),
            strings: Vec::new(),
            seen: vec![0; 2 * n],
            vacant: Vec::new(),
        };
        for q in 0..n {
            let (word, home) = (q / 64, (q / (64 * chunk)) as u32);
            let i = word / chunk * 2 * chunk + word % chunk;
            t.data[2 * q * stride + i] = 1 << (q % 64);
            t.data[(2 * q + 1) * stride + i + chunk] = 1 << (q % 64);
            t.span.extend([(home, home + 1); 2]);
        }
        t
    }

    /// Number of qubits.
    pub(crate) fn qubits(&self) -> usize {
        self.n
    }

    /// Words of one bit per virtual qubit.
    pub(crate) fn words(&self) -> usize {
        self.stride / 2
    }

    /// The same Clifford on more qubits.
    pub(crate) fn grow(&mut self, n: usize) {
        self.catch_up_all();
        let mut t = Tableau::new(n);
        let tracked = self.seen.len() - 2 * self.n;
        (0..tracked).for_each(|_| t.add_row());
        for r in 0..self.seen.len() {
            // Tracked strings keep their numbers.
            let to = if r < 2 * self.n { r } else { r - 2 * self.n + 2 * n };
            for word in 0..self.words() {
                let from = r * self.stride + word / self.chunk * 2 * self.chunk + word % self.chunk;
                let at = to * t.stride + word / t.chunk * 2 * t.chunk + word % t.chunk;
                if word < t.words() {
                    t.data[at] = self.data[from];
                    t.data[at + t.chunk] = self.data[from + self.chunk];
                }
            }
            t.negative[to] = self.negative[r];
            t.span[to] = (0, (t.stride / (2 * t.chunk)) as u32);
            t.seen[to] = self.seen[r];
        }
        t.label[..self.n].copy_from_slice(&self.label);
        t.vacant = std::mem::take(&mut self.vacant);
        *self = t;
    }

    /// Applies to a row the folds that it has not seen.
    #[inline]
    fn catch_up(&mut self, row: usize) {
        if (self.seen[row] as usize) < self.folds.len() {
            self.fold_into([row]);
        }
    }

    /// The same for four rows; together, if they have seen the same folds.
    #[inline]
    fn catch_up_four(&mut self, rows: [usize; 4]) {
        let seen = self.seen[rows[0]];
        if (seen as usize) < self.folds.len() && rows.iter().all(|&r| self.seen[r] == seen) {
            self.fold_into(rows);
        } else {
            rows.into_iter().for_each(|r| self.catch_up(r));
        }
    }

    /// If `U†P_qU` has many folds to see, applies them to the rows of the next three qubits as well, which are likely
    /// to be read next.
    fn catch_up_with_company(&mut self, p: Pauli, q: usize) {
        const MANY: usize = 16;
        let Some(i) = self.label[q].iter().position(|&l| l == p) else { return };
        let seen = self.seen[2 * q + i];
        if self.chunk == 8
            && q + 3 < self.n
            && seen as usize + MANY <= self.folds.len()
            && (q..q + 4).all(|q| self.label[q][i] == p && self.seen[2 * q + i] == seen)
        {
            self.fold_into([0, 1, 2, 3].map(|j| 2 * (q + j) + i));
        }
    }

    fn fold_into<const R: usize>(&mut self, rows: [usize; R]) {
        let from = self.seen[rows[0]] as usize;
        let stride = self.stride;
        let bits = self.data.get_disjoint_mut(rows.map(|r| r * stride..(r + 1) * stride));
        let (signs, spans) = (self.negative.get_disjoint_mut(rows), self.span.get_disjoint_mut(rows));
        let (Ok(bits), Ok(signs), Ok(spans)) = (bits, signs, spans) else { unreachable!("the rows are different") };
        let mut parts = bits.into_iter().zip(signs).zip(spans);
        let late = std::array::from_fn(|_| {
            let ((bits, negative), span) = parts.next().expect("as many as rows");
            Row { bits, negative, span }
        });
        fold::<R>(late, &self.folds[from..], &self.strings[from * stride..], self.chunk);
        for row in rows {
            self.seen[row] = self.folds.len() as u32;
        }
    }

    fn catch_up_all(&mut self) {
        for row in 0..self.seen.len() {
            self.catch_up(row);
            if self.seen[row] != RETIRED {
                self.seen[row] = 0;
            }
        }
        self.folds.clear();
        self.strings.clear();
    }

    fn add_row(&mut self) {
        self.data.resize(self.data.len() + self.stride, 0);
        self.negative.push(false);
        self.span.push((0, 0));
        self.seen.push(RETIRED);
    }

    /// Keeps a string, to which folds apply as to the rows.
    pub(crate) fn track(&mut self, q: &PauliString) -> TrackedPauli {
        let tracked = self.vacant.pop().unwrap_or_else(|| {
            self.add_row();
            TrackedPauli((self.seen.len() - 1 - 2 * self.n) as u32)
        });
        let row = 2 * self.n + tracked.0 as usize;
        self.data[row * self.stride..(row + 1) * self.stride].copy_from_slice(&q.bits);
        (self.negative[row], self.span[row], self.seen[row]) = (q.negative, q.span, self.folds.len() as u32);
        tracked
    }

    /// Copies a tracked string as it now is.
    pub(crate) fn tracked(&mut self, tracked: TrackedPauli, out: &mut PauliString) {
        self.copy_row(2 * self.n + tracked.0 as usize, out);
    }

    fn copy_row(&mut self, row: usize, out: &mut PauliString) {
        self.catch_up(row);
        out.chunk = self.chunk;
        out.bits.clear();
        out.bits.extend_from_slice(&self.data[row * self.stride..(row + 1) * self.stride]);
        (out.negative, out.span) = (self.negative[row], self.span[row]);
    }

    /// A string of another tableau, whose virtual qubit v is `virtuals[v]` here. It must be the identity where that is
    /// `None`.
    pub(crate) fn renamed(&self, q: &PauliString, virtuals: &[Option<usize>]) -> PauliString {
        let mut to = PauliString { bits: vec![0; self.stride], negative: q.negative, span: (0, 0), chunk: self.chunk };
        for (w, x, z) in q.words() {
            let mut both = x | z;
            while both != 0 {
                let bit = both.trailing_zeros() as usize;
                both &= both - 1;
                let Some(v) = virtuals[w * 64 + bit] else { continue };
                let (i, chunk) = (to.at(v / 64), (v / 64 / self.chunk) as u32);
                to.bits[i] |= (x >> bit & 1) << (v % 64);
                to.bits[i + self.chunk] |= (z >> bit & 1) << (v % 64);
                to.span = if to.span == (0, 0) {
                    (chunk, chunk + 1)
                } else {
                    (to.span.0.min(chunk), to.span.1.max(chunk + 1))
                };
            }
        }
        to
    }

    /// Takes over the rows of another tableau: qubit q becomes `qubits[q]`, virtual qubit v becomes `virtuals[v]`. On
    /// these, this Clifford must be the identity; on those that map to `None`, the other one.
    pub(crate) fn adopt(&mut self, other: &mut Tableau, qubits: &[Option<usize>], virtuals: &[Option<usize>]) {
        self.catch_up_all();
        let mut string = PauliString::default();
        for (q, to) in qubits.iter().enumerate() {
            let Some(to) = *to else { continue };
            self.label[to] = other.label[q];
            for i in 0..2 {
                other.copy_row(2 * q + i, &mut string);
                let (row, string) = (2 * to + i, self.renamed(&string, virtuals));
                self.data[row * self.stride..(row + 1) * self.stride].copy_from_slice(&string.bits);
                (self.negative[row], self.span[row]) = (string.negative, string.span);
            }
        }
    }

    /// Makes U the identity on some qubits. Their Z_q pull back to Z's on the virtual qubits `own`, in the same order,
    /// which are in |0>. So Z's on these are dropped from other strings; no other string may have X's there.
    pub(crate) fn isolate(&mut self, qubits: &[usize], own: &[usize]) {
        self.catch_up_all();
        let mut keep = vec![!0u64; self.stride];
        let at = |v: usize| v / 64 / self.chunk * 2 * self.chunk + v / 64 % self.chunk;
        for &v in own {
            keep[at(v)] &= !(1 << (v % 64));
            keep[at(v) + self.chunk] &= !(1 << (v % 64));
        }
        for row in self.data.chunks_exact_mut(self.stride) {
            row.iter_mut().zip(&keep).for_each(|(bits, keep)| *bits &= keep);
        }
        for (&q, &v) in qubits.iter().zip(own) {
            self.data[2 * q * self.stride..2 * (q + 1) * self.stride].fill(0);
            self.data[2 * q * self.stride + at(v)] = 1 << (v % 64);
            self.data[(2 * q + 1) * self.stride + at(v) + self.chunk] = 1 << (v % 64);
            let home = (v / 64 / self.chunk) as u32;
            for row in [2 * q, 2 * q + 1] {
                (self.negative[row], self.span[row]) = (false, (home, home + 1));
            }
            self.label[q] = [Pauli::X, Pauli::Z];
        }
    }

    /// The bits of a tracked string and its sign, for [`PauliString::anticommutes`].
    pub(crate) fn tracked_bits(&mut self, tracked: TrackedPauli) -> (&[u64], bool) {
        let row = 2 * self.n + tracked.0 as usize;
        self.catch_up(row);
        (&self.data[row * self.stride..(row + 1) * self.stride], self.negative[row])
    }

    pub(crate) fn untrack(&mut self, tracked: TrackedPauli) {
        self.seen[2 * self.n + tracked.0 as usize] = RETIRED;
        self.vacant.push(tracked);
    }

    fn bits(&self, row: usize) -> core::ops::Range<usize> {
        let (lo, hi) = self.span[row];
        let base = row * self.stride;
        base + lo as usize * 2 * self.chunk..base + hi as usize * 2 * self.chunk
    }

    /// Row `to` := i^phase · row `to` · row `from`.
    fn mul_row(&mut self, to: usize, from: usize, phase: u8) {
        let range = self.bits(from);
        let shift = |i: usize| i - from * self.stride + to * self.stride;
        let (a, b) = if to < from {
            let (lo, hi) = self.data.split_at_mut(from * self.stride);
            let start = from * self.stride;
            (&mut lo[shift(range.start)..shift(range.end)], &hi[range.start - start..range.end - start])
        } else {
            let (lo, hi) = self.data.split_at_mut(to * self.stride);
            let start = to * self.stride;
            (&mut hi[shift(range.start) - start..shift(range.end) - start], &lo[range])
        };
        let k = multiply(a, b, self.chunk)
            .wrapping_add(phase)
            .wrapping_add(2 * (self.negative[to] as u8 + self.negative[from] as u8));
        debug_assert!(k & 1 == 0, "a product of commuting strings is Hermitian");
        self.negative[to] = k & 2 != 0;
        let (lo, hi) = self.span[from];
        let span = &mut self.span[to];
        *span = (span.0.min(lo), span.1.max(hi));
    }

    /// The row that is `U†P_qU`, computed if it is not one of the two stored.
    fn row(&mut self, p: Pauli, q: usize) -> usize {
        let [a, b] = self.label[q];
        if a == p {
            self.catch_up(2 * q);
            return 2 * q;
        }
        self.catch_up(2 * q + 1);
        if b != p {
            self.catch_up(2 * q);
            // Row b := i^k a b. The order of the factors only turns the phase.
            self.mul_row(2 * q + 1, 2 * q, to_third(b, a));
            self.label[q][1] = p;
        }
        2 * q + 1
    }

    /// U := P_q U.
    pub(crate) fn pauli(&mut self, p: Pauli, q: usize) {
        for (i, label) in self.label[q].into_iter().enumerate() {
            self.negative[2 * q + i] ^= label != p;
        }
    }

    /// U := g_q U.
    pub(crate) fn clifford1(&mut self, g: Clifford1, q: usize) {
        for (i, label) in self.label[q].iter_mut().enumerate() {
            let (to, minus) = CONJUGATE[g as usize][*label as usize];
            *label = to;
            self.negative[2 * q + i] ^= minus;
        }
    }

    /// U := (Q_b controlled by P_a) U: what anticommutes with P on a is multiplied by Q on b, and the other way round.
    fn controlled(&mut self, p: Pauli, a: usize, q: Pauli, b: usize) {
        self.catch_up_four([2 * a, 2 * a + 1, 2 * b, 2 * b + 1]);
        let (ra, rb) = (self.row(p, a), self.row(q, b));
        self.mul_row(ra ^ 1, rb, 0);
        self.mul_row(rb ^ 1, ra, 0);
    }

    /// U := g(a, b) U.
    pub(crate) fn clifford2(&mut self, g: Clifford2, a: usize, b: usize) {
        match g {
            Clifford2::Cnot => self.controlled(Pauli::Z, a, Pauli::X, b),
            Clifford2::Cz => self.controlled(Pauli::Z, a, Pauli::Z, b),
            Clifford2::Swap => {
                for i in 0..2 {
                    let (ra, rb) = (2 * a + i, 2 * b + i);
                    let (lo, hi) = (ra.min(rb), ra.max(rb));
                    let (first, second) = self.data.split_at_mut(hi * self.stride);
                    first[lo * self.stride..][..self.stride].swap_with_slice(&mut second[..self.stride]);
                    self.negative.swap(ra, rb);
                    self.span.swap(ra, rb);
                    self.seen.swap(ra, rb);
                }
                self.label.swap(a, b);
            }
        }
    }

    /// `out := U† P U` for a product of one-qubit Paulis on distinct qubits.
    pub(crate) fn pull_back(&mut self, factors: &[(Pauli, usize)], out: &mut PauliString) {
        out.chunk = self.chunk;
        out.bits.clear();
        out.negative = false;
        out.span = (0, 0);
        for &(p, q) in factors {
            self.catch_up_with_company(p, q);
            let row = self.row(p, q);
            if out.bits.is_empty() {
                out.bits.extend_from_slice(&self.data[row * self.stride..(row + 1) * self.stride]);
                (out.negative, out.span) = (self.negative[row], self.span[row]);
                continue;
            }
            let range = self.bits(row);
            let base = row * self.stride;
            let k = multiply(&mut out.bits[range.start - base..range.end - base], &self.data[range], self.chunk);
            debug_assert!(k & 1 == 0, "the factors commute");
            out.negative ^= self.negative[row] ^ (k & 2 != 0);
            let (lo, hi) = self.span[row];
            out.span = (out.span.0.min(lo), out.span.1.max(hi));
        }
    }

    /// Given Q that is not the identity on virtual qubit d, folds `V = before · (R controlled by d) · [H_d]` into U on
    /// the right. `before` turns Q into `X_d R`: it is H_d if Q has Z on d, S_d if Y, the identity if X. With
    /// `hadamard`, `V†QV = Z_d`; without, X_d. On return Q is R. Returns `before`, which the frame must follow.
    pub(crate) fn fold_controlled(&mut self, q: &mut PauliString, d: usize, hadamard: bool) -> AxisPermutation {
        let before = match (q.x(d), q.z(d)) {
            (true, true) => AxisPermutation::S,
            (true, false) => AxisPermutation::Identity,
            _ => AxisPermutation::H,
        };
        // S†YS = X and HZH = X: no sign.
        q.clear(d);
        // So the log takes at most half of the memory of the rows.
        if self.folds.len() >= self.n.max(64) {
            self.catch_up_all();
        }
        self.folds.push(Fold::new(before, q.negative, q.span, d, self.chunk, hadamard));
        self.strings.extend_from_slice(&q.bits);
        before
    }

    /// Marks the rows of qubit q as not read again, so that folds cost nothing for them. With `keep_z`, Z_q can still
    /// be pulled back.
    pub(crate) fn retire(&mut self, q: usize, keep_z: bool) {
        let z = keep_z.then(|| self.row(Pauli::Z, q));
        for row in [2 * q, 2 * q + 1] {
            if Some(row) != z {
                self.seen[row] = RETIRED;
            }
        }
    }
}
