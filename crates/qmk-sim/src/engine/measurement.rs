//! Measurements.

use super::backend::{Backend, Frame};
use super::bits::AxisPermutation;
use super::frame_state::FrameState;
use super::refusal::Refusal;
use crate::rng::DrawSite;
use qmk_abi::image::Pauli;

impl<F: Frame + Default> FrameState<F> {
    /// Measures a product P of Paulis on distinct qubits; 1 for eigenvalue -1.
    pub(crate) fn measure<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        site: DrawSite,
        backend: &mut B,
    ) -> Result<F::Bit, Refusal> {
        self.tableau.pull_back(p, &mut self.q);
        self.measure_scratch(p, site, backend)
    }

    /// Measures Z_q after which q is not used, or only measured again in Z.
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
        // The rotations that it needs change the row.
        let outcome = self.measure_scratch(&p, site, backend);
        self.tableau.retire(q, keep_z);
        outcome
    }

    /// Whether measuring Z_q would draw.
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
        // The highest bit: what is kept then lies in long stretches.
        let bit = if m.x != 0 { m.x.ilog2() } else { m.z.ilog2() };
        let outcome = backend.collapse(m, sign, bit, site);
        let v = self.active.remove(bit as usize) as usize;
        self.active_mask[v / 64] &= !(1 << (v % 64));
        self.settle(v, &outcome);
        Ok(outcome)
    }

    /// After a measurement of the scratch string Q: makes it Z_d in the structure and puts d to the outcome.
    pub(super) fn settle(&mut self, d: usize, outcome: &F::Bit) {
        // Before d goes to the outcome, it is `X_d^e |0>_d`, e the outcome and whether F turns it. X_d moves past the rotations
        // that wait.
        let mut e = F::Bit::default();
        if !self.deferred.is_empty() {
            e = self.frame.anticommutes(&self.q);
            F::xor(&mut e, outcome);
        }
        let before = self.tableau.fold_controlled(&mut self.q, d, true);
        // The rest of Q goes into F where F had X on d, or Z if H has turned that to X; S leaves an X.
        let b = if before == AxisPermutation::H { self.frame.z(d) } else { self.frame.x(d) };
        self.absorb(&b);
        self.pass(d, Pauli::X, &e);
        self.frame.set(d, outcome.clone());
    }

    /// Whether measuring Z_q, [prepared](Self::prepare), takes a qubit out of the register.
    pub(crate) fn collapses(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        let m = self.mask();
        self.dormant_x().is_none() && m.x | m.z != 0
    }

    /// Gives qubits that were just reset virtual qubits of their own: `U = U' ⊗ 1` with 1 on them. Returns their virtual
    /// qubits, both as states that nothing else depends on.
    pub(crate) fn detach(&mut self, qubits: &[usize]) -> Vec<usize> {
        let mut own = Vec::with_capacity(qubits.len());
        let mut taken = vec![0u64; self.tableau.words()];
        for &q in qubits {
            // Z_q is a product of Z's on dormant qubits that commutes with all that waits.
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

    /// Measures Z_q and turns the qubit to |0>.
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
