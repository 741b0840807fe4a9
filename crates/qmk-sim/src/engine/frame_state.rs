//! A state `U F R (|φ> ⊗ |0…0>)`.
//!
//! U is a Clifford, F a Pauli on virtual qubits, R a list of deferred rotations, φ a dense register over the *active*
//! virtual qubits. The other virtual qubits are *dormant*.
//!
//! A rotation is deferred until a measurement that does not commute with it, or with a rotation that must come after
//! it. So a qubit goes active as late as possible, and a rotation that no measurement depends on is never performed.
//!
//! F on a dormant qubit is X or the identity: it says which basis state the qubit is in.

use super::backend::Frame;
use super::charge::{charge_register, register_bytes};
use super::refusal::Refusal;
use super::tableau::{PauliString, Tableau, TrackedPauli};
use crate::ledger::Charge;
use crate::register::mask::Mask;
use qmk_abi::image::{Clifford1, Clifford2, Pauli};
use std::collections::VecDeque;

/// `exp(-i θ/2 (-1)^sign Q)` where `cond` holds, yet to be performed.
#[derive(Clone, Debug)]
pub(super) struct DeferredRotation<B> {
    /// Q, kept by the tableau.
    pub(super) tracked: TrackedPauli,
    pub(super) theta: f64,
    pub(super) sign: B,
    pub(super) cond: Option<B>,
    pub(super) at: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct FrameState<F: Frame> {
    pub(super) tableau: Tableau,
    pub(super) frame: F,
    /// Virtual qubit of each register bit.
    pub(super) active: Vec<u32>,
    /// Bit set of active virtual qubits.
    pub(super) active_mask: Vec<u64>,
    pub(super) defers_rotations: bool,
    /// R, in the order in which it acts.
    pub(super) deferred: VecDeque<DeferredRotation<F::Bit>>,
    pub(super) max_active: u32,
    pub(super) peak_active: u32,
    /// Elementary steps spent on finding the rotations that measurements need.
    pub(super) effort: u64,
    /// Instruction under way. Refusals name it.
    pub(super) at: u32,
    /// Scratch for pulled-back strings.
    pub(super) q: PauliString,
    /// What the register is charged.
    pub(super) charge: Charge,
}

impl<F: Frame + Default> FrameState<F> {
    /// n qubits in |0>. Without `defers_rotations`, each rotation is performed at once.
    pub(crate) fn new(n: usize, max_active: u32, defers_rotations: bool) -> Self {
        let tableau = Tableau::new(n);
        let words = tableau.words();
        let mut frame = F::default();
        frame.resize(words);
        FrameState {
            tableau,
            frame,
            active: Vec::new(),
            active_mask: vec![0; words],
            defers_rotations,
            deferred: VecDeque::new(),
            max_active: max_active.min(40),
            peak_active: 0,
            effort: 0,
            at: 0,
            q: PauliString::default(),
            charge: Charge::default(),
        }
    }

    /// The same, with a register that is charged where `charge` is.
    pub(crate) fn charged(self, charge: &Charge) -> Self {
        FrameState { charge: charge.clone(), ..self }
    }

    /// Gives back what the register does not need any more.
    pub(crate) fn release(&mut self) {
        self.charge.lower(register_bytes(self.active.len() as u32));
    }

    /// A copy, whose register is charged before it is made. `at` is the instruction to report.
    pub(crate) fn copy(&self, at: u32) -> Result<Self, Refusal>
    where
        F: Clone,
    {
        let mut charge = self.charge.clone();
        charge_register(&mut charge, self.active.len() as u32, at)?;
        Ok(FrameState { charge, ..self.clone() })
    }

    /// Adds qubits in |0> up to n.
    pub(crate) fn grow(&mut self, n: usize) {
        if n > self.tableau.qubits() {
            self.tableau.grow(n);
            self.active_mask.resize(self.tableau.words(), 0);
            self.frame.resize(self.tableau.words());
        }
    }

    pub(crate) fn qubits(&self) -> usize {
        self.tableau.qubits()
    }

    pub(crate) fn active(&self) -> &[u32] {
        &self.active
    }

    pub(crate) fn peak_active(&self) -> u32 {
        self.peak_active
    }

    pub(crate) fn effort(&self) -> u64 {
        self.effort
    }

    pub(crate) fn frame(&self) -> &F {
        &self.frame
    }

    /// See [`Tableau::retire`].
    pub(crate) fn retire(&mut self, q: usize, keep_z: bool) {
        self.tableau.retire(q, keep_z);
    }

    pub(crate) fn pull_back(&mut self, p: &[(Pauli, usize)]) -> PauliString {
        let mut q = PauliString::default();
        self.tableau.pull_back(p, &mut q);
        q
    }

    pub(crate) fn clifford1(&mut self, g: Clifford1, q: usize) {
        self.tableau.clifford1(g, q);
    }

    pub(crate) fn clifford2(&mut self, g: Clifford2, a: usize, b: usize) {
        self.tableau.clifford2(g, a, b);
    }

    /// Applies a Pauli where `bit` is 1. It goes to the frame, so that all shots keep one tableau.
    pub(crate) fn apply_pauli(&mut self, p: &[(Pauli, usize)], bit: &F::Bit) {
        self.tableau.pull_back(p, &mut self.q);
        self.absorb(bit);
    }

    /// F := F · Q^bit for the scratch string Q. Its Z's on dormant qubits are moved past the deferred rotations, to
    /// where they act on |0>.
    pub(super) fn absorb(&mut self, bit: &F::Bit) {
        if *bit == F::Bit::default() {
            return;
        }
        self.frame.absorb(&self.q, bit, &self.active_mask);
        for w in &mut self.deferred {
            let (bits, _) = self.tableau.tracked_bits(w.tracked);
            if self.q.dormant_z_anticommutes(bits, &self.active_mask) {
                F::xor(&mut w.sign, bit);
            }
        }
    }

    /// Moves X or Z on v, where `bit` is 1, past the deferred rotations: those that anticommute with it change sign.
    pub(super) fn pass(&mut self, v: usize, p: Pauli, bit: &F::Bit) {
        if *bit == F::Bit::default() {
            return;
        }
        for w in &mut self.deferred {
            let (bits, _) = self.tableau.tracked_bits(w.tracked);
            let (x, z) = self.q.letter(bits, v);
            if if p == Pauli::X { z } else { x } {
                F::xor(&mut w.sign, bit);
            }
        }
    }

    /// A dormant virtual qubit on which the scratch string has X or Y. One that F leaves in |0> is preferred.
    pub(super) fn dormant_x(&self) -> Option<usize> {
        let dormant = || self.q.words().map(|(w, x, _)| (w, x & !self.active_mask[w])).filter(|(_, x)| *x != 0);
        let (w, x) = dormant().next()?;
        self.frame.idle(dormant()).or(Some(w * 64 + x.trailing_zeros() as usize))
    }

    /// The scratch string restricted to register bits.
    pub(super) fn mask(&self) -> Mask {
        let mut m = Mask { x: 0, z: 0, negative: self.q.negative };
        for (bit, &v) in self.active.iter().enumerate() {
            m.x |= (self.q.x(v as usize) as u64) << bit;
            m.z |= (self.q.z(v as usize) as u64) << bit;
        }
        m
    }

    /// Takes over the qubits of another state: qubit q becomes `qubits[q]`, virtual qubit v becomes `virtuals[v]`. Here
    /// the targets are [detached](Self::detach); in the other state those are that map to `None`. The other register's
    /// bits come above those here.
    pub(crate) fn adopt(&mut self, mut other: Self, qubits: &[Option<usize>], virtuals: &[Option<usize>]) {
        self.tableau.adopt(&mut other.tableau, qubits, virtuals);
        for (v, to) in virtuals.iter().enumerate() {
            if let Some(to) = *to {
                self.frame.set(to, other.frame.x(v));
            }
        }
        for v in other.active {
            let Some(to) = virtuals[v as usize] else { unreachable!("it is in no basis state") };
            self.frame.set_z(to, other.frame.z(v as usize));
            self.active.push(to as u32);
            self.active_mask[to / 64] |= 1 << (to % 64);
        }
        for w in other.deferred {
            other.tableau.tracked(w.tracked, &mut self.q);
            let tracked = self.tableau.track(&self.tableau.renamed(&self.q, virtuals));
            self.deferred.push_back(DeferredRotation { tracked, ..w });
        }
        self.max_active = self.max_active.max(other.max_active);
        self.peak_active = self.peak_active.max(other.peak_active).max(self.active.len() as u32);
    }

    pub(crate) fn max_active(&self) -> u32 {
        self.max_active
    }

    /// Raises the limit of active qubits to at least `max_active`.
    pub(crate) fn allow_active(&mut self, max_active: u32) {
        self.max_active = self.max_active.max(max_active);
    }
}
