//! The exact state of qubits during one shot.

use super::amplitudes::amplitudes;
use super::frame_state::FrameState;
use super::refusal::Refusal;
use super::shot::{BitFrame, Shot};
use crate::ledger::Charge;
use crate::rng::DrawSite;
use num_complex::Complex64;
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};

/// State of n qubits, all |0> at first.
#[derive(Clone, Debug)]
pub struct State {
    frame_state: FrameState<BitFrame>,
    shot: Shot,
}

impl State {
    /// n qubits in |0>. `max_active` bounds the register to `2^max_active` amplitudes.
    pub fn new(n: usize, seed: u64, shot: u64, max_active: u32) -> Self {
        State { frame_state: FrameState::new(n, max_active, true), shot: Shot::new(seed, shot) }
    }

    /// Adds qubits in |0> up to n.
    pub fn grow(&mut self, n: usize) {
        self.frame_state.grow(n);
    }

    /// Number of qubits.
    pub fn qubits(&self) -> usize {
        self.frame_state.qubits()
    }

    /// Number of qubits that carry live magic.
    pub fn active(&self) -> u32 {
        self.frame_state.active().len() as u32
    }

    /// Largest value of [`State::active`] so far.
    pub fn peak_active(&self) -> u32 {
        self.frame_state.peak_active()
    }

    /// Performs an operation; `Alloc` and `Fence` do nothing here. `at` numbers the instruction for its random draws;
    /// `record` receives the outcomes in the order of [`Op::writes`].
    ///
    /// # Errors
    /// [`Refusal::TooManyActive`] or [`Refusal::OutOfMemory`], before memory is taken. The operation has then had no
    /// effect.
    pub fn perform(&mut self, op: &Op, at: u32, record: impl FnMut(bool)) -> Result<(), Refusal> {
        if let Op::MeasureBell(a, b, ..) = *op {
            let (a, b) = (a as usize, b as usize);
            let both: [&[_]; 2] = [&[(Pauli::X, a), (Pauli::X, b)], &[(Pauli::Z, a), (Pauli::Z, b)]];
            self.frame_state.prepare(&both, at, &mut self.shot)?;
        }
        self.frame_state.perform(op, at, None, &mut self.shot, record)
    }

    /// A Pauli that is conditional on outcomes: goes to the frame.
    pub fn frame_pauli(&mut self, p: Pauli, q: usize) {
        self.frame_state.apply_pauli(&[(p, q)], &true);
    }

    /// Makes draws with another seed from now on.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.shot.random.seed = seed;
    }

    pub(crate) fn max_active(&self) -> u32 {
        self.frame_state.max_active()
    }

    /// Charges for a register of so many qubits at instruction `at`.
    pub(crate) fn charge_register(&mut self, active: u32, at: u32) -> Result<(), Refusal> {
        self.frame_state.charge_register(active, at)
    }

    /// See [`FrameState::charged`].
    pub(crate) fn charged(self, charge: &Charge) -> Self {
        State { frame_state: self.frame_state.charged(charge), ..self }
    }

    /// See [`FrameState::release`].
    pub(crate) fn release(&mut self) {
        self.frame_state.release();
    }

    /// See [`FrameState::copy`].
    pub(crate) fn copy(&self, at: u32) -> Result<State, Refusal> {
        Ok(State { frame_state: self.frame_state.copy(at)?, shot: self.shot.clone() })
    }

    /// Makes sure that qubits can be measured in Z, and reset, without refusal. The state stays as it is.
    pub(crate) fn prepare(&mut self, qubits: &[usize], at: u32) -> Result<(), Refusal> {
        let products: Vec<[_; 1]> = qubits.iter().map(|&q| [(Pauli::Z, q)]).collect();
        let products: Vec<&[_]> = products.iter().map(|p| p.as_slice()).collect();
        self.frame_state.prepare(&products, at, &mut self.shot)
    }

    /// See [`FrameState::collapses`].
    pub(crate) fn collapses(&mut self, q: usize) -> bool {
        self.frame_state.collapses(q)
    }

    /// Resets a qubit.
    pub(crate) fn reset(&mut self, q: usize, site: DrawSite) -> Result<(), Refusal> {
        self.frame_state.reset(q, site, &mut self.shot)
    }

    /// Turns two qubits in |0> into `(|00> + |11>)/√2`.
    pub(crate) fn entangle(&mut self, a: usize, b: usize) {
        self.frame_state.clifford1(Clifford1::H, a);
        self.frame_state.clifford2(Clifford2::Cnot, a, b);
    }

    /// See [`FrameState::detach`].
    pub(crate) fn detach(&mut self, qubits: &[usize]) -> Vec<usize> {
        self.frame_state.detach(qubits)
    }

    /// See [`FrameState::adopt`].
    pub(crate) fn adopt(&mut self, other: State, qubits: &[Option<usize>], virtuals: &[Option<usize>]) {
        self.frame_state.adopt(other.frame_state, qubits, virtuals);
        self.shot.adopt(other.shot);
    }

    /// The 2^n amplitudes, bit q of an index being qubit q; up to a global phase. For tests and debugging.
    ///
    /// # Panics
    /// If n is above 20.
    pub fn amplitudes(&self) -> Vec<Complex64> {
        assert!(self.qubits() <= 20, "2^{} amplitudes", self.qubits());
        amplitudes(self.frame_state.clone(), self.shot.clone())
    }
}
