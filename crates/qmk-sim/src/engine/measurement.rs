//! Measurements: of dormant qubits, which are fair coins or certain, and of the register.

use super::backend::{Backend, Frame};
use super::bits::AxisPermutation;
use super::frame_state::FrameState;
use super::refusal::Refusal;
use crate::rng::DrawSite;
use qmk_abi::image::Pauli;

impl<F: Frame + Default> FrameState<F> {
    /// Measures a product P of Paulis on distinct qubits. The outcome is 1 for eigenvalue -1.
    pub(crate) fn measure<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        site: DrawSite,
        backend: &mut B,
    ) -> Result<F::Bit, Refusal> {
        self.tableau.pull_back(p, &mut self.q);
        self.measure_scratch(p, site, backend)
    }

    /// Measures Z_q for the last time; with `keep_z`, q may be measured in Z again. See
    /// [`Tableau::retire`](super::tableau::Tableau::retire).
    pub(crate) fn measure_last<B: Backend<Frame = F>>(
        &mut self,
        q: usize,
        keep_z: bool,
        site: DrawSite,
        backend: &mut B,
    ) -> Result<F::Bit, Refusal> {
        let p = [(Pauli::Z, q)];
        self.tableau.pull_back(&p, &mut self.q);
        if self.deferred.is_empty() {
            self.tableau.retire(q, keep_z);
            return self.measure_scratch(&p, site, backend);
        }
        // The rotations that the measurement needs still change the row.
        let outcome = self.measure_scratch(&p, site, backend);
        self.tableau.retire(q, keep_z);
        outcome
    }

    /// Whether the outcome of measuring Z_q is random.
    pub(crate) fn is_random(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        self.dormant_x().is_some()
            || {
                let m = self.mask();
                m.x | m.z != 0
            }
            || self.deferred.iter().any(|w| self.q.anticommutes(self.tableau.tracked_bits(w.tracked).0))
    }

    /// Measures P, whose pulled-back string Q is in the scratch.
    pub(super) fn measure_scratch<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        site: DrawSite,
        backend: &mut B,
    ) -> Result<F::Bit, Refusal> {
        if !self.deferred.is_empty() {
            self.at = site.at;
            self.perform_needed(self.q.bits.clone(), backend)?;
            self.tableau.pull_back(p, &mut self.q);
        }
        if let Some(d) = self.dormant_x() {
            // Both outcomes are equally likely. `(1 ± X_d R)/√2 |0>_d = CR H |0 or 1>_d`: afterwards P is Z_d.
            let outcome = backend.coin(site);
            self.settle(d, &outcome);
            return Ok(outcome);
        }
        let m = self.mask();
        let sign = self.frame.anticommutes(&self.q);
        if m.x | m.z == 0 {
            let mut outcome = sign;
            if m.negative {
                B::invert(&mut outcome);
            }
            return Ok(outcome);
        }
        // φ is projected and one of its qubits, v, goes dormant. As above, afterwards P is Z_v.
        // The highest bit leaves, so that the amplitudes that are kept lie in long stretches.
        let bit = if m.x != 0 { m.x.ilog2() } else { m.z.ilog2() };
        let outcome = backend.collapse(m, sign, bit, site);
        let v = self.active.remove(bit as usize) as usize;
        self.active_mask[v / 64] &= !(1 << (v % 64));
        self.settle(v, &outcome);
        Ok(outcome)
    }

    /// Completes a measurement of the scratch string Q: turns Q into Z_d by a change of U, and sets d to the outcome.
    pub(super) fn settle(&mut self, d: usize, outcome: &F::Bit) {
        // Before d is set, it is in `X_d^e |0>_d`, e the outcome plus the commutation of Q with F. X_d moves past the
        // deferred rotations.
        let mut e = F::Bit::default();
        if !self.deferred.is_empty() {
            e = self.frame.anticommutes(&self.q);
            F::xor(&mut e, outcome);
        }
        let before = self.tableau.fold_controlled(&mut self.q, d, true);
        // Where F had X on d, the rest of Q goes into F. If H came first, that X was a Z; S leaves X as it is.
        let b = if before == AxisPermutation::H { self.frame.z(d) } else { self.frame.x(d) };
        self.absorb(&b);
        self.pass(d, Pauli::X, &e);
        self.frame.set(d, outcome.clone());
    }

    /// Whether measuring Z_q removes a qubit from the register, once the measurement is [prepared](Self::prepare).
    pub(crate) fn collapses(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        let m = self.mask();
        self.dormant_x().is_none() && m.x | m.z != 0
    }

    /// Gives qubits that were just reset virtual qubits of their own: `U = U' ⊗ 1` with 1 on them. Returns these
    /// virtual qubits, in the order of the qubits. Nothing else depends on either afterwards.
    pub(crate) fn detach(&mut self, qubits: &[usize]) -> Vec<usize> {
        let mut own = Vec::with_capacity(qubits.len());
        let mut taken = vec![0u64; self.tableau.words()];
        for &q in qubits {
            // Z_q is a product of Z's on dormant qubits, and commutes with all deferred rotations.
            self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
            let untaken = self.q.words().map(|(w, _, z)| (w, z & !taken[w])).find(|(_, z)| *z != 0);
            let Some((w, z)) = untaken else { unreachable!("Z's on different qubits are independent") };
            let d = w * 64 + z.trailing_zeros() as usize;
            taken[w] |= 1 << (d % 64);
            self.settle(d, &F::Bit::default());
            own.push(d);
        }
        self.tableau.isolate(qubits, &own);
        own
    }

    /// Measures Z_q and flips the qubit to |0> where the outcome is 1.
    pub(crate) fn reset<B: Backend<Frame = F>>(
        &mut self,
        q: usize,
        site: DrawSite,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        let outcome = self.measure(&[(Pauli::Z, q)], site, backend)?;
        self.apply_pauli(&[(Pauli::X, q)], &outcome);
        Ok(())
    }
}
