//! How a strand is taken back: by undoing its last unitary instructions, or to a fence whose state was saved.

use crate::errors::{Checked, broken};

use crate::sched::frontier::{Frontier, InFlight};
use crate::strand::state::{ResumePoint, Strand};
use crate::time::Epoch;
use alloc::{sync::Arc, vec::Vec};
use qmk_abi::Op;
use qmk_abi::syscall::StrandState;
use qmk_hal::{Device, DeviceError};

impl Strand {
    /// Operations that a rollback undoes, in the order of their issue.
    pub(crate) fn reversible(&self) -> impl Iterator<Item = Op> {
        self.reversible.iter().filter_map(|&index| Some(self.image.image.code.get(index as usize)?.op))
    }

    /// Undoes the unitary instructions since the last irreversible one. Undoing takes as many epochs and magic states
    /// as doing did, which the strand owes from here on. Returns the number of instructions, 0 if it has not started.
    pub(crate) fn rollback<D: Device>(&mut self, device: &mut D, now: Epoch) -> Checked<Result<u32, DeviceError>> {
        let costs = self.reversible().map(|op| device.cost(&op, self.run.patch));
        let (longest, magic) = costs.fold((0, 0), |(l, m), c| (c.cycles.max(l), m + c.magic as u64));
        let (Some(space), Some(frontier)) = (self.space, &mut self.frontier) else { return Ok(Ok(0)) };
        let mut undone = self.reversible.clone();
        undone.reverse();
        for (done, &index) in undone.iter().enumerate() {
            if let Err(e) = device.undo(space, index) {
                // The call must change nothing, so the ones that were undone are issued again.
                for &index in undone.iter().take(done).rev() {
                    let _ = device.issue(space, index);
                }
                return Ok(Err(e));
            }
        }
        self.reversible.clear();
        // The frontier needs to know which of them were not complete yet: only those that were had let others become
        // ready.
        let mut flying: Vec<u32> = self.in_flight.iter().collect();
        flying.sort_unstable();
        let mut taken = undone.clone();
        taken.sort_unstable();
        self.in_flight.retain(|index| taken.binary_search(&index).is_err());
        frontier.take_back(&self.flow, &undone, &flying);
        if !undone.is_empty() {
            // Waiting at a fence after the last of them is not undone.
            let end = now.min(self.last_issue.plus(longest.saturating_sub(1) as u64));
            self.epoch_debt += end.since(self.reversible_since) + 1;
        }
        self.issued =
            self.issued.checked_sub(undone.len() as u32).ok_or_else(|| broken("more is undone than was issued"))?;
        self.magic += magic;
        self.undone_magic += magic;
        self.magic_debt += magic;
        self.update_hold();
        Ok(Ok(undone.len() as u32))
    }

    /// The point at the fence that it is held at, with nothing under way. `None` if it is not held.
    pub(crate) fn mark(&self) -> Option<ResumePoint> {
        let segment = self.frontier.as_ref()?.held_at(&self.flow)?;
        let &Strand { issued, magic, undone_magic, epochs, .. } = self;
        Some(ResumePoint { segment, issued, magic, undone_magic, epochs })
    }

    /// Magic states of its work since `mark`, all shots together. Those of instructions that were undone, and of
    /// undoing them, were charged when that happened.
    pub(crate) fn magic_since(&self, mark: &ResumePoint) -> u64 {
        let net = |magic: u64, undone: u64| magic.saturating_sub(2 * undone);
        let since = net(self.magic, self.undone_magic).saturating_sub(net(mark.magic, mark.undone_magic));
        since.saturating_mul(self.run.shots)
    }

    /// Goes on from `mark`, whose state the device has restored. Instructions before it count as complete, those after
    /// it as not issued, and all shots are to be finished anew.
    pub(crate) fn resume_at(&mut self, mark: ResumePoint, now: Epoch, heights: Option<Arc<Vec<u32>>>) {
        self.frontier = Some(Frontier::new(&self.flow, heights, mark.segment, self.holds()));
        self.in_flight = InFlight::default();
        self.reversible.clear();
        (self.epoch_debt, self.magic_debt) = (0, 0);
        self.shots_done = 0;
        (self.issued, self.epochs) = (mark.issued, mark.epochs);
        (self.magic, self.undone_magic) = (mark.magic, mark.undone_magic);
        self.started = now.minus(mark.epochs);
        self.last_issue = now;
        self.state = StrandState::Running;
        self.fault = None;
        self.update_hold();
    }
}
