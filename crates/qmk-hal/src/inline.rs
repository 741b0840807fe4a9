//! Work done at once, in the thread that asks for it.

use crate::device::Device;
use crate::error::{Ability, DeviceError};
use crate::interactive::{Interactive, Place};
use crate::snapshot::Snapshots;
use crate::space::{SnapshotId, SpaceId, SpaceStatus};
use crate::work::{Progress, Work};
use qmk_abi::image::Instr;

/// The calls of a device that take time, each begun, stepped and finished in line.
///
/// Every device has these methods, and no device has others in their place: work done in line is the work that a pool
/// of threads would do.
pub trait Inline: Device {
    /// Works on a program for at most about `budget` elementary steps; [`SpaceStatus::steps`] says how many it took.
    ///
    /// # Errors
    /// Those of [`Device::begin_work`] and [`Device::finish`].
    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        let (mut left, mut steps, mut prepared) = (budget, 0, 0);
        loop {
            let mut work = self.begin_work(space)?;
            let progress = work.step(left);
            let status = self.finish(work)?;
            steps += status.steps;
            prepared = status.prepared.max(prepared);
            if progress != Progress::Return {
                return Ok(SpaceStatus { steps, prepared, ..status });
            }
            left = budget.saturating_sub(steps).max(1);
        }
    }

    /// Performs one instruction in an interactive space.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`], or those of [`Interactive::begin_perform`].
    #[inline]
    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError> {
        let work = self.qubits()?.begin_perform(space, instr)?;
        self.complete(work)
    }

    /// Makes an entangled pair.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`], or those of [`Interactive::begin_link`].
    fn link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<(), DeviceError> {
        let work = self.qubits()?.begin_link(a, b, errors)?;
        self.complete(work)
    }

    /// Saves the state of a space.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`], or those of [`Snapshots::begin_snapshot`].
    fn snapshot(&mut self, space: SpaceId) -> Result<SnapshotId, DeviceError> {
        let (id, work) = self.copies()?.begin_snapshot(space)?;
        self.complete(work)?;
        Ok(id)
    }

    /// Brings a space back to a saved state.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`], or those of [`Snapshots::begin_restore`].
    fn restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<(), DeviceError> {
        let work = self.copies()?.begin_restore(space, snapshot)?;
        self.complete(work)
    }

    /// Forgets a saved state.
    fn forget(&mut self, snapshot: SnapshotId) {
        if let Some(snapshots) = self.snapshots() {
            snapshots.forget(snapshot);
        }
    }

    /// Closes a space.
    fn close(&mut self, space: SpaceId) {
        if let Some(work) = self.begin_close(space) {
            // Closing is not refused; what could not be measured is left to the device.
            let _ = self.complete(work);
        }
    }

    /// The interactive part of the device.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if it has none: the one refusal of all calls that need it.
    fn qubits(&mut self) -> Result<&mut dyn Interactive<Work = Self::Work>, DeviceError> {
        self.interactive().ok_or(DeviceError::Unsupported(Ability::Interactive))
    }

    /// The part of the device that copies states.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if it has none.
    fn copies(&mut self) -> Result<&mut dyn Snapshots<Work = Self::Work>, DeviceError> {
        self.snapshots().ok_or(DeviceError::Unsupported(Ability::Snapshots))
    }

    /// Steps work to its end and gives it back.
    ///
    /// # Errors
    /// Those of [`Device::finish`].
    #[inline]
    fn complete(&mut self, mut work: Self::Work) -> Result<(), DeviceError> {
        while work.step(u64::MAX) == Progress::More {}
        self.finish(work).map(drop)
    }
}

impl<D: Device + ?Sized> Inline for D {}
