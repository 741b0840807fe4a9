//! States of interactive spaces. Spaces that were linked share one.

use super::refusal::{MAX_QUBITS, refused, short, too_many_qubits};
use crate::engine::refusal::Refusal;
use crate::engine::state::State;
use crate::engine::tableau::tableau_bytes;
use crate::ledger::Charge;
use crate::rng::{DrawSite, Random};
use num_complex::Complex64;
use qmk_abi::image::{Op, Pauli};
use qmk_hal::DeviceError;
use std::collections::BTreeSet;

/// A state, the spaces that share it, and the qubits that none of them names.
#[derive(Clone, Debug)]
pub(crate) struct SharedState {
    state: State,
    spaces: BTreeSet<u32>,
    /// Qubits in |0>, each with the virtual qubit that is its own.
    free: Vec<(usize, usize)>,
    /// Qubits of closed spaces, and qubits replaced at a reset, that are still to be measured. No outcome of others
    /// depends on when that happens.
    unmeasured: Vec<(usize, Draw)>,
    /// What the tableau is charged.
    charge: Charge,
}

/// Seed and site of a draw: each space draws with its own seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    pub(crate) seed: u64,
    pub(crate) site: DrawSite,
}

impl SharedState {
    /// The state of one space without qubits.
    pub(crate) fn new(space: u32, max_active: u32, charge: Charge) -> Self {
        SharedState {
            state: State::new(0, 0, 0, max_active).charged(&charge),
            spaces: BTreeSet::from([space]),
            free: Vec::new(),
            unmeasured: Vec::new(),
            charge,
        }
    }

    pub(crate) fn spaces(&self) -> &BTreeSet<u32> {
        &self.spaces
    }

    pub(crate) fn max_active(&self) -> u32 {
        self.state.max_active()
    }

    pub(crate) fn peak_active(&self) -> u32 {
        self.state.peak_active()
    }

    /// Number of qubits that are not free.
    pub(crate) fn used(&self) -> usize {
        self.state.qubits() - self.free.len()
    }

    /// Charges for more qubits. Returns how many there are to be.
    fn charge(&mut self, count: usize) -> Result<usize, DeviceError> {
        let (n, used) = (self.state.qubits(), self.used() + count);
        if used > MAX_QUBITS {
            return Err(too_many_qubits());
        }
        // Doubling keeps the cost of growth linear.
        let n = if used > n { used.next_power_of_two() } else { n };
        self.charge.raise(tableau_bytes(n)).map_err(short)?;
        Ok(n)
    }

    /// Makes room for more qubits.
    fn reserve(&mut self, count: usize) -> Result<(), DeviceError> {
        let (before, n) = (self.state.qubits(), self.charge(count)?);
        self.state.grow(n);
        self.free.splice(0..0, (before..n).rev().map(|q| (q, q)));
        Ok(())
    }

    /// A qubit in |0>.
    pub(crate) fn take(&mut self) -> Result<usize, DeviceError> {
        self.reserve(1)?;
        self.free.pop().map(|(q, _)| q).ok_or_else(too_many_qubits)
    }

    /// A qubit in |0> in place of one that is still to be measured.
    pub(crate) fn replace(&mut self, q: usize, draw: Draw) -> Result<usize, DeviceError> {
        let fresh = self.take()?;
        self.unmeasured.push((q, draw));
        Ok(fresh)
    }

    /// Performs an operation on qubits of the state with draws of a space. One that is refused has no effect.
    pub(crate) fn perform(&mut self, op: &Op, seed: u64, at: u32, record: impl FnMut(bool)) -> Result<(), DeviceError> {
        self.sweep();
        self.state.reseed(seed);
        let done = self.state.perform(op, at, record).map_err(self.error(at));
        self.state.release();
        done
    }

    /// A copy, charged for itself; `at` is the instruction that errors name.
    pub(crate) fn copy(&self, at: u32) -> Result<SharedState, DeviceError> {
        let mut charge = self.charge.clone();
        charge.raise(self.charge.bytes()).map_err(short)?;
        let state = self.state.copy(at).map_err(self.error(at))?;
        let (spaces, free, unmeasured) = (self.spaces.clone(), self.free.clone(), self.unmeasured.clone());
        Ok(SharedState { state, spaces, free, unmeasured, charge })
    }

    /// Reports a refusal for instruction `at` of the caller. The rotation that caused it may be of another space, whose
    /// numbers mean nothing to the caller.
    fn error(&self, at: u32) -> impl Fn(Refusal) -> DeviceError + use<> {
        let limit = self.max_active();
        move |why| refused(at, why.on_behalf_of(at), limit)
    }

    /// Whether a qubit of this state and one of another can be reset and the states then be made one, at instruction
    /// `at`. The states stay what they are.
    pub(crate) fn can_join(&mut self, q: usize, other: &mut SharedState, r: usize, at: u32) -> Result<(), DeviceError> {
        self.can_reset(&[q], at)?;
        other.can_reset(&[r], at)?;
        if self.used() + other.used() > MAX_QUBITS {
            return Err(too_many_qubits());
        }
        let collapsing = self.state.collapses(q) as u32 + other.state.collapses(r) as u32;
        let active = self.state.active() + other.state.active() - collapsing;
        let limit = self.max_active().max(other.max_active());
        let (kept, moved) = if self.used() < other.used() { (other, self) } else { (self, other) };
        kept.charge(moved.used())?;
        if active > limit {
            return Err(refused(at, Refusal::TooManyActive { needed: active, at }, limit));
        }
        kept.state.charge_register(active, at).map_err(kept.error(at))
    }

    /// Whether qubits can be reset, one after the other, at instruction `at`. The state stays what it is.
    pub(crate) fn can_reset(&mut self, qubits: &[usize], at: u32) -> Result<(), DeviceError> {
        self.sweep();
        self.state.prepare(qubits, at).map_err(self.error(at))
    }

    pub(crate) fn reset(&mut self, q: usize, draw: Draw) -> Result<(), DeviceError> {
        self.state.reseed(draw.seed);
        self.state.reset(q, draw.site).map_err(self.error(draw.site.at))
    }

    /// Turns two qubits in |0> into a Bell pair with an error on the second: X, Y or Z with these probabilities.
    pub(crate) fn entangle(&mut self, [a, b]: [usize; 2], errors: [f64; 3], draw: Draw) {
        self.state.entangle(a, b);
        let random = Random { seed: draw.seed };
        let mut left = random.uniform(draw.site, 0, random.coin(draw.site, 0));
        for (p, error) in errors.into_iter().zip([Pauli::X, Pauli::Y, Pauli::Z]) {
            if left < p {
                self.state.frame_pauli(error, b);
                break;
            }
            left -= p;
        }
    }

    /// Makes this and another state one. Returns the number here of each qubit of the other, by its old number; `None`
    /// for those that were free.
    pub(crate) fn adopt(&mut self, other: SharedState) -> Vec<Option<usize>> {
        let (n, count) = (other.state.qubits(), other.used());
        // It was charged by `can_join`.
        _ = self.reserve(count);
        let (mut qubits, mut virtuals) = (vec![true; n], vec![true; n]);
        for &(q, v) in &other.free {
            (qubits[q], virtuals[v]) = (false, false);
        }
        let (q, v): (Vec<_>, Vec<_>) = self.free.drain(self.free.len() - count..).unzip();
        let (qubits, virtuals) = (number(qubits, q), number(virtuals, v));
        self.unmeasured.extend(other.unmeasured.iter().filter_map(|&(q, draw)| Some((qubits[q]?, draw))));
        self.spaces.extend(other.spaces);
        self.state.adopt(other.state, &qubits, &virtuals);
        qubits
    }

    /// Removes a space. Its qubits are measured, with draws numbered from `draw` on.
    pub(crate) fn leave(&mut self, space: u32, qubits: impl Iterator<Item = usize>, draw: Draw) {
        self.spaces.remove(&space);
        let site = |i| DrawSite { draw: i, ..draw.site };
        self.unmeasured.extend(qubits.zip(0..).map(|(q, i)| (q, Draw { site: site(i), ..draw })));
        self.sweep();
    }

    /// Measures the qubits that no space names, and frees them. Those that would need too many active qubits stay
    /// unmeasured.
    fn sweep(&mut self) {
        let mut freed = Vec::new();
        for (q, draw) in std::mem::take(&mut self.unmeasured) {
            match self.reset(q, draw) {
                Ok(()) => freed.push(q),
                Err(_) => self.unmeasured.push((q, draw)),
            }
        }
        if !freed.is_empty() {
            let own = self.state.detach(&freed);
            self.free.extend(freed.into_iter().zip(own));
        }
    }

    /// Amplitudes of at most 20 qubits: bit i of an index is the i-th of `order`, which has all qubits that spaces
    /// name. Bits of qubits that closed spaces have left and that are yet to be measured come above.
    pub(crate) fn amplitudes(&self, order: impl Iterator<Item = usize>) -> Option<Vec<Complex64>> {
        let (n, used) = (self.state.qubits(), self.used());
        if used > 20 {
            return None;
        }
        let mut virtuals = vec![true; n];
        self.free.iter().for_each(|&(_, v)| virtuals[v] = false);
        let mut qubits = vec![None; n];
        order.chain(self.unmeasured.iter().map(|&(q, _)| q)).enumerate().for_each(|(i, q)| qubits[q] = Some(i));
        let mut state = State::new(used, 0, 0, 0);
        state.adopt(self.state.clone(), &qubits, &number(virtuals, 0..used));
        Some(state.amplitudes())
    }
}

/// Gives marked entries the names, in order, and the others none.
fn number(marked: Vec<bool>, names: impl IntoIterator<Item = usize>) -> Vec<Option<usize>> {
    let mut names = names.into_iter();
    marked.into_iter().map(|m| if m { names.next() } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmk_abi::image::{Clifford1, Clifford2};
    use qmk_testkit::Rng;

    #[test]
    fn a_joint_state_is_the_product_of_its_parts() {
        for case in 0..300 {
            let mut dice = Rng::new(case);
            let mut joints = [0, 1].map(|space| SharedState::new(space, 8, Charge::default()));
            let qubits = joints.each_mut().map(|j| [(); 4].map(|()| j.take().expect("there is room")));
            for at in 0..40 {
                let i = dice.below(2);
                let q = dice.pick(&qubits[i]) as u32;
                let pauli = dice.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
                let op = match dice.below(8) {
                    0..4 => Op::Rotate(pauli, q, dice.below(60) as f64 / 10.0 - 3.0),
                    4 => Op::Measure(pauli, q, 0),
                    _ => {
                        let r = qubits[i][(1 + q as usize) % 4] as u32;
                        Op::Clifford2(dice.pick(&[Clifford2::Cnot, Clifford2::Cz]), q, r)
                    }
                };
                joints[i].perform(&op, case, at, |_| {}).expect("eight can be active");
            }
            let [low, high] = [0, 1].map(|i| joints[i].amplitudes(qubits[i].into_iter()).expect("four qubits"));
            let [mut joint, other] = joints;
            let names = joint.adopt(other);
            let order = qubits[1].iter().map(|&q| names[q].expect("it is in use"));
            let both = joint.amplitudes(qubits[0].into_iter().chain(order)).expect("eight qubits");
            let overlap: Complex64 = both.iter().enumerate().map(|(b, a)| a.conj() * low[b & 15] * high[b >> 4]).sum();
            assert!((overlap.norm() - 1.0).abs() < 1e-9, "case {case}: {overlap}");
        }
    }

    #[test]
    fn spaces_that_come_and_go_leave_no_qubits_behind() {
        let mut joint = SharedState::new(0, 8, Charge::default());
        let near = joint.take().expect("there is room");
        for space in 1..1000 {
            let mut other = SharedState::new(space, 8, Charge::default());
            let far = [(); 3].map(|()| other.take().expect("there is room"));
            let far = far.map(|q| q as u32);
            let ops =
                [Op::Clifford1(Clifford1::H, far[0]), Op::T(far[0]), Op::Clifford2(Clifford2::Cnot, far[0], far[1])];
            ops.iter().for_each(|op| other.perform(op, 5, space, |_| {}).expect("it is small"));
            let names = joint.adopt(other);
            let far = far.map(|q| names[q as usize].expect("it is in use"));
            let draw = Draw { seed: 3, site: DrawSite { at: space, draw: 0 } };
            joint.reset(near, draw).and_then(|()| joint.reset(far[2], draw)).expect("it is small");
            joint.entangle([near, far[2]], [0.1; 3], draw);
            joint
                .perform(&Op::Toffoli(far[0] as u32, far[2] as u32, near as u32), 3, space, |_| {})
                .expect("it is small");
            joint.leave(space, far.into_iter(), draw);
            assert_eq!((joint.used(), joint.spaces.len()), (1, 1));
            assert!(joint.state.qubits() <= 4);
        }
    }
}
