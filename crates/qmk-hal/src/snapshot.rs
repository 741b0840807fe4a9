//! The part of the contract for saved states, which only a simulator can offer.

use crate::error::DeviceError;
use crate::space::{SnapshotId, SpaceId};

/// A device that can copy quantum states.
pub trait Snapshots {
    /// [`Device::Work`](crate::Device::Work) of the same device.
    type Work;

    /// Begins to save the state of a space. The id names the saved state once the work has been given back without an
    /// error.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if there is no such space, it shares its state with another, or there is no memory for
    /// a copy. [`DeviceError::Busy`] if the space has work out. From `finish`: [`DeviceError::OutOfMemory`],
    /// [`DeviceError::StateBytes`].
    fn begin_snapshot(&mut self, space: SpaceId) -> Result<(SnapshotId, Self::Work), DeviceError>;

    /// Begins to bring a space back to a state that was saved of it. A program's shots since then are forgotten. An
    /// interactive space makes new draws afterwards: measurements repeated may read otherwise.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the space has no such snapshot or shares its state with another.
    /// [`DeviceError::Busy`] if it has work out. From `finish`: [`DeviceError::OutOfMemory`],
    /// [`DeviceError::StateBytes`].
    fn begin_restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<Self::Work, DeviceError>;

    /// Forgets a saved state. Unknown ids are ignored.
    fn forget(&mut self, snapshot: SnapshotId);
}
