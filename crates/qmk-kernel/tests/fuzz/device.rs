//! The simulated machine, whose calls are counted and whose memory is not.

use crate::memory::MEMORY;
use qmk_kernel::abi::image::Instr;
use qmk_kernel::hal::{
    Device, DeviceError, Interactive, Place, Progress, SnapshotId, Snapshots, SpaceId, SpaceSpec, SpaceStatus, Work,
    forward_device,
};
use qmk_sim::{SimDevice, SimWork};
use qmk_testkit::Checked;

/// The simulated machine, checked, which counts what it is asked for.
pub(crate) struct Counted {
    pub(crate) inner: Checked<SimDevice>,
    pub(crate) calls: u64,
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("device")
    }
}

impl Counted {
    /// Calls the device, whose memory is no matter of the kernel's.
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut Checked<SimDevice>) -> R) -> R {
        self.calls += 1;
        uncounted(|| f(&mut self.inner))
    }
}

/// Runs the device's code, without what memory it takes.
pub(crate) fn uncounted<R>(f: impl FnOnce() -> R) -> R {
    let before = MEMORY.get();
    let result = f();
    MEMORY.set(before);
    result
}

/// The device's work.
pub(crate) struct Uncounted(SimWork);

impl Work for Uncounted {
    fn space(&self) -> SpaceId {
        self.0.space()
    }
    fn step(&mut self, budget: u64) -> Progress {
        uncounted(|| self.0.step(budget))
    }
}

impl Device for Counted {
    forward_device!(
        inner: Checked<SimDevice>;
        except Work, open, issue, issue_range, undo, begin_work, finish, begin_close, interactive, snapshots
    );

    type Work = Uncounted;

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        self.with(|d| d.open(spec))
    }
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        self.with(|d| d.issue(space, index))
    }
    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        self.with(|d| d.undo(space, index))
    }
    fn begin_work(&mut self, space: SpaceId) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_work(space)).map(Uncounted)
    }
    fn finish(&mut self, work: Uncounted) -> Result<SpaceStatus, DeviceError> {
        uncounted(|| self.inner.finish(work.0))
    }
    fn begin_close(&mut self, space: SpaceId) -> Option<Uncounted> {
        self.with(|d| d.begin_close(space)).map(Uncounted)
    }
    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Uncounted>> {
        Some(self)
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots<Work = Uncounted>> {
        Some(self)
    }
}

impl Interactive for Counted {
    type Work = Uncounted;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_perform(space, instr)).map(Uncounted)
    }
    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_link(a, b, errors)).map(Uncounted)
    }
}

impl Snapshots for Counted {
    type Work = Uncounted;

    fn begin_snapshot(&mut self, space: SpaceId) -> Result<(SnapshotId, Uncounted), DeviceError> {
        let (snapshot, work) = self.with(|d| d.begin_snapshot(space))?;
        Ok((snapshot, Uncounted(work)))
    }
    fn begin_restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_restore(space, snapshot)).map(Uncounted)
    }
    fn forget(&mut self, snapshot: SnapshotId) {
        self.with(|d| Snapshots::forget(d, snapshot));
    }
}
