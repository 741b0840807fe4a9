//! What a state is generic over: the bits of the Pauli frame, and the register.
//!
//! With plain bits the rules of the state run one shot; with parities of coins and outcomes they plan all shots.

use super::tableau::PauliString;
use crate::register::mask::Mask;
use crate::rng::DrawSite;

/// The Pauli frame F of a state, over virtual qubits.
pub(crate) trait Frame {
    type Bit: Clone + Default + PartialEq;

    /// Makes room for virtual qubits, 64 to a word; F is the identity on new ones.
    fn resize(&mut self, words: usize);
    /// Whether F anticommutes with Q. F has no Z on dormant qubits.
    fn anticommutes(&self, q: &PauliString) -> Self::Bit;
    /// F := F · Q^bit, without Z on dormant qubits.
    fn absorb(&mut self, q: &PauliString, bit: &Self::Bit, active: &[u64]);
    /// X and Z parts on one qubit.
    fn x(&self, v: usize) -> Self::Bit;
    fn z(&self, v: usize) -> Self::Bit;
    /// A dormant qubit among those in `candidates` that F leaves in |0>, if there is one.
    fn idle(&self, candidates: impl Iterator<Item = (usize, u64)>) -> Option<usize>;
    /// Sets F on v to X^bit.
    fn set(&mut self, v: usize, bit: Self::Bit);
    /// Sets the Z part of F on v, which is active, to `bit`.
    fn set_z(&mut self, v: usize, bit: Self::Bit);
    /// `into ^= other`.
    fn xor(into: &mut Self::Bit, other: &Self::Bit);
}

/// The register, or the plan of what will be done to it.
pub(crate) trait Backend {
    type Frame: Frame;

    /// The fair coin of a draw.
    fn coin(&mut self, site: DrawSite) -> Bit<Self>;
    /// Applies `exp(-i θ/2 (-1)^sign m)` where `cond` holds.
    fn rotate(&mut self, m: Mask, theta: f64, sign: Bit<Self>, cond: Option<&Bit<Self>>);
    /// Adds a highest bit in `cos θ/2 |0> - i sin θ/2 |1>`, in |0> where `cond` does not hold.
    fn push(&mut self, theta: f64, cond: Option<&Bit<Self>>);
    /// Measures `(-1)^sign m`, then removes `bit` from the register. Returns the outcome.
    fn collapse(&mut self, m: Mask, sign: Bit<Self>, bit: u32, site: DrawSite) -> Bit<Self>;
    /// `into ^= 1`.
    fn invert(into: &mut Bit<Self>);
}

pub(crate) type Bit<B> = <<B as Backend>::Frame as Frame>::Bit;
