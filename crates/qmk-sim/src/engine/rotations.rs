//! Deferred rotations: how they are queued and merged, which a measurement needs, and how one is performed.

use super::backend::{Backend, Frame};
use super::bits::AxisPermutation;
use super::charge::{LARGE, charge_register};
use super::frame_state::{DeferredRotation, FrameState};
use super::refusal::Refusal;
use qmk_abi::image::Pauli;
use std::collections::VecDeque;
use std::f64::consts::FRAC_PI_4;

/// How many of the last deferred rotations a new one is compared with.
const REACH: usize = 4;

impl<F: Frame + Default> FrameState<F> {
    /// Applies `exp(-i θ/2 P)` for a product P of Paulis on distinct qubits, where `cond` holds. The rotation is
    /// deferred behind the others, or merged with one about the same string that it can be moved next to.
    pub(super) fn rotate<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        theta: f64,
        cond: Option<&F::Bit>,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        self.tableau.pull_back(p, &mut self.q);
        let sign = self.frame.anticommutes(&self.q);
        for (i, w) in self.deferred.iter_mut().enumerate().rev().take(REACH) {
            let (bits, negative) = self.tableau.tracked_bits(w.tracked);
            if bits == self.q.bits && cond.is_none() && w.cond.is_none() && sign == w.sign {
                w.theta += if negative == self.q.negative { theta } else { -theta };
                // The two undo each other.
                if w.theta == 0.0 {
                    self.tableau.untrack(w.tracked);
                    self.deferred.remove(i);
                }
                return Ok(());
            }
            if self.q.anticommutes(bits) {
                break;
            }
        }
        let tracked = self.tableau.track(&self.q);
        self.deferred.push_back(DeferredRotation { tracked, theta, sign, cond: cond.cloned(), at: self.at });
        if self.defers_rotations { Ok(()) } else { self.perform_deferred(backend) }
    }

    /// Performs all deferred rotations, or none.
    ///
    /// # Errors
    /// If one of them would make too many qubits active.
    pub(crate) fn perform_deferred<B: Backend<Frame = F>>(&mut self, backend: &mut B) -> Result<(), Refusal> {
        self.perform_next(self.deferred.len(), backend)
    }

    /// Performs the rotations that must come before a measurement of these commuting products of Paulis. Measuring them
    /// is not refused afterwards. `at` is the instruction that measures.
    pub(crate) fn prepare<B: Backend<Frame = F>>(
        &mut self,
        products: &[&[(Pauli, usize)]],
        at: u32,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        self.at = at;
        let mut strings = Vec::new();
        for p in products {
            self.tableau.pull_back(p, &mut self.q);
            strings.extend_from_slice(&self.q.bits);
        }
        self.perform_needed(strings, backend)
    }

    /// Performs the rotations that must come before a measurement of the strings: those that do not commute with a
    /// string, or with a needed rotation after them. The others stay, and commute with all that they are overtaken by.
    pub(super) fn perform_needed<B: Backend<Frame = F>>(
        &mut self,
        mut strings: Vec<u64>,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        if self.deferred.is_empty() {
            return Ok(());
        }
        // The strings of needed rotations join `strings`.
        let stride = 2 * self.tableau.words();
        self.effort += self.deferred.len() as u64 * (1 + stride as u64 / 8);
        let mut needed = VecDeque::new();
        let mut rest = VecDeque::new();
        while let Some(w) = self.deferred.pop_back() {
            let (bits, _) = self.tableau.tracked_bits(w.tracked);
            // Latest addition first: it comes right after this rotation, and often does not commute with it.
            if strings.chunks_exact(stride).rev().any(|later| self.q.anticommute(later, bits)) {
                strings.extend_from_slice(bits);
                needed.push_front(w);
            } else {
                rest.push_front(w);
            }
        }
        let count = needed.len();
        needed.append(&mut rest);
        self.deferred = needed;
        self.perform_next(count, backend)
    }

    /// Performs the first `count` rotations, or none.
    pub(super) fn perform_next<B: Backend<Frame = F>>(&mut self, count: usize, backend: &mut B) -> Result<(), Refusal> {
        self.can_perform(count)?;
        (0..count).for_each(|_| self.perform_first(backend));
        Ok(())
    }

    /// Whether the first `count` rotations can be performed. Each makes a qubit active, unless its X's on dormant
    /// qubits are a product of those of others: the rank of these X's over GF(2) is the number of qubits that go
    /// active.
    pub(super) fn can_perform(&mut self, count: usize) -> Result<(), Refusal> {
        let most = self.active.len() + count;
        if most <= self.max_active as usize && most < LARGE as usize {
            let at = self.deferred.front().map_or(self.at, |first| first.at);
            return self.room(most as u32, at);
        }
        // Independent strings of X's. Each has a pivot, by word and mask, that no later one has.
        let mut basis: Vec<(usize, u64, Vec<u64>)> = Vec::new();
        for i in 0..count {
            let DeferredRotation { tracked, at, .. } = self.deferred[i];
            self.tableau.tracked(tracked, &mut self.q);
            let mut xs = vec![0; self.tableau.words()];
            self.q.words().for_each(|(w, x, _)| xs[w] = x & !self.active_mask[w]);
            for (w, bit, other) in &basis {
                if xs[*w] & bit != 0 {
                    xs.iter_mut().zip(other).for_each(|(x, other)| *x ^= other);
                }
            }
            if let Some(w) = xs.iter().position(|&x| x != 0) {
                basis.push((w, xs[w] & xs[w].wrapping_neg(), xs));
                self.room((self.active.len() + basis.len()) as u32, at)?;
            }
        }
        Ok(())
    }

    /// Performs the first rotation, which [can be performed](Self::can_perform).
    pub(super) fn perform_first<B: Backend<Frame = F>>(&mut self, backend: &mut B) {
        let Some(DeferredRotation { tracked, theta, sign, cond, .. }) = self.deferred.pop_front() else { return };
        self.tableau.tracked(tracked, &mut self.q);
        self.tableau.untrack(tracked);
        let Some(d) = self.dormant_x() else {
            let m = self.mask();
            // An identity is a global phase.
            if m.x | m.z != 0 {
                backend.rotate(m, theta, sign, cond.as_ref());
            }
            return;
        };
        // Q = X_d S: `exp(-iθ/2 Q)|0>_d|χ> = CS (exp(-iθ/2 X_d)|0>_d)|χ>`, CS = "S controlled by d". F = X_d^b G
        // becomes `X_d^b S^b G Z_d^g`, g the commutation of G with S. If Q has Y in place of X, a further Z_d^b is
        // left. The sign of the angle goes into F: `exp(iθ/2 X)|0> = Z exp(-iθ/2 X)|0>`, and Z moves past the deferred
        // rotations.
        let before = self.tableau.fold_controlled(&mut self.q, d, false);
        let mut z = self.frame.anticommutes(&self.q);
        let b = self.frame.x(d);
        self.absorb(&b);
        if before == AxisPermutation::S {
            F::xor(&mut z, &b);
        }
        F::xor(&mut z, &sign);
        self.active.push(d as u32);
        self.active_mask[d / 64] |= 1 << (d % 64);
        self.peak_active = self.peak_active.max(self.active.len() as u32);
        self.frame.set_z(d, z);
        self.pass(d, Pauli::Z, &sign);
        backend.push(theta, cond.as_ref());
    }

    /// Whether `needed` qubits may be active, and there is memory for a register of them, which is charged. `at` is the
    /// instruction to report.
    fn room(&mut self, needed: u32, at: u32) -> Result<(), Refusal> {
        if needed > self.max_active {
            return Err(Refusal::TooManyActive { needed, at });
        }
        self.charge_register(needed, at)
    }

    /// Charges for a register of so many qubits at instruction `at`.
    pub(crate) fn charge_register(&mut self, active: u32, at: u32) -> Result<(), Refusal> {
        charge_register(&mut self.charge, active, at)
    }

    /// CCZ as seven commuting rotations: `|111><111| = (1-Z_a)(1-Z_b)(1-Z_c)/8`.
    pub(super) fn ccz<B: Backend<Frame = F>>(
        &mut self,
        [a, b, c]: [usize; 3],
        cond: Option<&F::Bit>,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        let z = |q| (Pauli::Z, q);
        for q in [a, b, c] {
            self.rotate(&[z(q)], FRAC_PI_4, cond, backend)?;
        }
        for (p, q) in [(a, b), (a, c), (b, c)] {
            self.rotate(&[z(p), z(q)], -FRAC_PI_4, cond, backend)?;
        }
        self.rotate(&[z(a), z(b), z(c)], FRAC_PI_4, cond, backend)
    }
}
