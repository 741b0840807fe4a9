//! What the bits of a frame are, and what becomes of the register.

use super::tableau::PauliString;
use crate::register::mask::Mask;
use crate::rng::DrawSite;

/// The frame F of one structure.
pub(crate) trait Frame {
    type Bit: Clone + Default + PartialEq;

    /// Of n virtual qubits, the identity.
    fn resize(&mut self, words: usize);
    /// Whether F anticommutes with Q. Z on a dormant qubit counts as nothing in F.
    fn anticommutes(&self, q: &PauliString) -> Self::Bit;
    /// F := F · Q^bit, without Z on dormant qubits.
    fn absorb(&mut self, q: &PauliString, bit: &Self::Bit, active: &[u64]);
    /// X and Z parts on one qubit.
    fn x(&self, v: usize) -> Self::Bit;
    fn z(&self, v: usize) -> Self::Bit;
    /// A dormant qubit among those in `candidates` that F leaves in |0>, if there is one.
    fn idle(&self, candidates: impl Iterator<Item = (usize, u64)>) -> Option<usize>;
    /// Puts F on v to X^bit.
    fn set(&mut self, v: usize, bit: Self::Bit);
    /// Puts F's Z on v, which is active, to `bit`.
    fn set_z(&mut self, v: usize, bit: Self::Bit);
    /// `into ^= other`.
    fn xor(into: &mut Self::Bit, other: &Self::Bit);
}

/// What the bits of the frame are, and what becomes of the register.
pub(crate) trait Backend {
    type Frame: Frame;

    /// The coin at a site.
    fn coin(&mut self, site: DrawSite) -> Bit<Self>;
    /// Applies `exp(-i θ/2 (-1)^sign m)` where `cond` holds.
    fn rotate(&mut self, m: Mask, theta: f64, sign: Bit<Self>, cond: Option<&Bit<Self>>);
    /// Adds a highest bit in `cos θ/2 |0> - i sin θ/2 |1>`, in |0> where `cond` does not hold.
    fn push(&mut self, theta: f64, cond: Option<&Bit<Self>>);
    /// Measures `(-1)^sign m` and removes `bit`. Returns the outcome.
    fn collapse(&mut self, m: Mask, sign: Bit<Self>, bit: u32, site: DrawSite) -> Bit<Self>;
    /// `into ^= 1`.
    fn invert(into: &mut Bit<Self>);
}

pub(crate) type Bit<B> = <<B as Backend>::Frame as Frame>::Bit;
