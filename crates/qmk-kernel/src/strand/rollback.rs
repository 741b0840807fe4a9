//! How a strand is taken back.

use crate::sched::frontier::{Frontier, InFlight};
use crate::strand::state::{ResumePoint, Strand};
use alloc::sync::Arc;
use alloc::vec::Vec;
use qmk_abi::Op;
use qmk_abi::syscall::StrandState;
use qmk_hal::{Device, DeviceError};

impl Strand {
    /// Operations that a rollback takes back.
    pub(crate) fn reversible(&self) -> impl Iterator<Item = Op> {
        self.reversible.iter().filter_map(|&index| Some(self.image.image.code.get(index as usize)?.op))
    }

    /// Takes back what is unitary, back to the last irreversible instruction. It takes the epochs and the magic states that
    /// it took to do it; returns the number of instructions.
    pub(crate) fn rollback<D: Device>(&mut self, device: &mut D, now: u64) -> Result<u32, DeviceError> {
        let costs = self.reversible().map(|op| device.cost(&op, self.run.patch));
        let (longest, magic) = costs.fold((0, 0), |(l, m), c| (c.cycles.max(l), m + c.magic as u64));
        let (Some(space), Some(frontier)) = (self.space, &mut self.frontier) else { return Ok(0) };
        let mut undone = self.reversible.clone();
        undone.reverse();
        for (done, &index) in undone.iter().enumerate() {
            if let Err(e) = device.undo(space, index) {
                // What was taken back is issued again, so that the call changes nothing.
                for &index in undone.iter().take(done).rev() {
                    let _ = device.issue(space, index);
                }
                return Err(e);
            }
        }
        self.reversible.clear();
        let mut flying: Vec<u32> = self.in_flight.iter().collect();
        flying.sort_unstable();
        let mut taken = undone.clone();
        taken.sort_unstable();
        self.in_flight.retain(|index| taken.binary_search(&index).is_err());
        frontier.take_back(&self.flow, &undone, &flying);
        if !undone.is_empty() {
            // To wait at a fence is nothing to undo.
            let end = now.min(self.last_issue + longest.saturating_sub(1) as u64);
            self.epoch_debt += end - self.reversible_since + 1;
        }
        self.issued -= undone.len() as u32;
        self.magic += magic;
        self.undone_magic += magic;
        self.magic_debt += magic;
        self.update_hold();
        Ok(undone.len() as u32)
    }

    /// The fence it is held at, with nothing under way.
    pub(crate) fn mark(&self) -> Option<ResumePoint> {
        let segment = self.frontier.as_ref()?.held_at(&self.flow)?;
        let &Strand { issued, magic, undone_magic, epochs, .. } = self;
        Some(ResumePoint { segment, issued, magic, undone_magic, epochs })
    }

    /// Magic states of what it has done since `mark`, all shots together.
    pub(crate) fn magic_since(&self, mark: &ResumePoint) -> u64 {
        let net = |magic: u64, undone: u64| magic.saturating_sub(2 * undone);
        let since = net(self.magic, self.undone_magic).saturating_sub(net(mark.magic, mark.undone_magic));
        since.saturating_mul(self.run.shots)
    }

    /// Takes up what it did at `mark`.
    pub(crate) fn resume_at(&mut self, mark: ResumePoint, now: u64, heights: Option<Arc<Vec<u32>>>) {
        self.frontier = Some(Frontier::new(&self.flow, heights, mark.segment, self.holds()));
        self.in_flight = InFlight::default();
        self.reversible.clear();
        (self.epoch_debt, self.magic_debt) = (0, 0);
        self.shots_done = 0;
        (self.issued, self.epochs) = (mark.issued, mark.epochs);
        (self.magic, self.undone_magic) = (mark.magic, mark.undone_magic);
        self.started = now.saturating_sub(mark.epochs);
        self.last_issue = now;
        self.state = StrandState::Running;
        self.fault = None;
        self.update_hold();
    }
}
