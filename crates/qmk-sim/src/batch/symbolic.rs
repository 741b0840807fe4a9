//! Parities of symbols: the bits of the Pauli frame when all shots are planned at once.

use crate::engine::backend::Frame;
use crate::engine::tableau::PauliString;

/// The parity of some numbered symbols and a constant. The symbols are a bit set, stored from its first word that is
/// not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parity {
    pub(crate) constant: bool,
    first: u32,
    words: Vec<u64>,
}

impl Parity {
    pub(crate) fn symbol(s: u32) -> Self {
        Parity { constant: false, first: s / 64, words: vec![1 << (s % 64)] }
    }

    /// Words of the bit set.
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    pub(crate) fn xor(&mut self, other: &Parity) {
        self.constant ^= other.constant;
        if other.words.is_empty() {
            return;
        }
        if self.words.is_empty() {
            (self.first, self.words) = (other.first, other.words.clone());
            return;
        }
        if other.first < self.first {
            let gap = (self.first - other.first) as usize;
            self.words.splice(0..0, std::iter::repeat_n(0, gap));
            self.first = other.first;
        }
        let at = (other.first - self.first) as usize;
        if self.words.len() < at + other.words.len() {
            self.words.resize(at + other.words.len(), 0);
        }
        for (a, b) in self.words[at..].iter_mut().zip(&other.words) {
            *a ^= b;
        }
    }

    /// The symbols, in ascending order.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(move |(i, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    (self.first + i as u32) * 64 + bit
                })
            })
        })
    }
}

/// The Pauli frame of all shots.
#[derive(Clone, Debug, Default)]
pub(crate) struct SymbolicFrame {
    x: Vec<Parity>,
    z: Vec<Parity>,
    /// Where `x` and `z` may not be zero.
    some_x: Vec<u64>,
    some_z: Vec<u64>,
}

fn each(w: usize, mut bits: u64, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(w * 64 + bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

impl Frame for SymbolicFrame {
    type Bit = Parity;

    fn resize(&mut self, words: usize) {
        self.x.resize(words * 64, Parity::default());
        self.z.resize(words * 64, Parity::default());
        self.some_x.resize(words, 0);
        self.some_z.resize(words, 0);
    }

    fn anticommutes(&self, q: &PauliString) -> Parity {
        let mut sum = Parity::default();
        for (w, x, z) in q.words() {
            each(w, z & self.some_x[w], |v| sum.xor(&self.x[v]));
            each(w, x & self.some_z[w], |v| sum.xor(&self.z[v]));
        }
        sum
    }

    fn absorb(&mut self, q: &PauliString, bit: &Parity, active: &[u64]) {
        if *bit == Parity::default() {
            return;
        }
        for (w, x, z) in q.words() {
            let z = z & active[w];
            each(w, x, |v| self.x[v].xor(bit));
            each(w, z, |v| self.z[v].xor(bit));
            self.some_x[w] |= x;
            self.some_z[w] |= z;
        }
    }

    fn x(&self, v: usize) -> Parity {
        self.x[v].clone()
    }

    fn z(&self, v: usize) -> Parity {
        self.z[v].clone()
    }

    fn idle(&self, mut candidates: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
        candidates.find_map(|(w, x)| {
            let idle = x & !self.some_x[w];
            (idle != 0).then(|| w * 64 + idle.trailing_zeros() as usize)
        })
    }

    fn set(&mut self, v: usize, bit: Parity) {
        let (w, mask) = (v / 64, 1u64 << (v % 64));
        self.some_z[w] &= !mask;
        self.z[v] = Parity::default();
        if bit == Parity::default() {
            self.some_x[w] &= !mask;
        } else {
            self.some_x[w] |= mask;
        }
        self.x[v] = bit;
    }

    fn set_z(&mut self, v: usize, bit: Parity) {
        self.some_z[v / 64] |= 1 << (v % 64);
        self.z[v] = bit;
    }

    fn xor(into: &mut Parity, other: &Parity) {
        into.xor(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parities_cancel_wherever_their_words_lie() {
        let mut e = Parity::symbol(700);
        for s in [3, 64, 700, 9000, 3] {
            e.xor(&Parity::symbol(s));
        }
        assert_eq!(e.symbols().collect::<Vec<_>>(), [64, 9000]);
        e.xor(&e.clone());
        assert!(e.is_constant() && !e.constant);
    }
}
