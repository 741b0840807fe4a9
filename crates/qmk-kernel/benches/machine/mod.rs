//! The modelled machine without its physics: costs are those of the simulated device, and shots are done at once, so
//! that what is measured is the kernel.
#![allow(dead_code, unreachable_pub, reason = "each bench uses a part")]

use qmk_abi::image::{Image, Instr};
use qmk_abi::syscall::Patch;
use qmk_hal::{
    Device, DeviceError, Finished, Interactive, Place, SnapshotId, Snapshots, SpaceId, SpaceSpec, SpaceStatus,
    forward_device,
};
use qmk_sim::{SimConfig, SimDevice};
use std::sync::Arc;

/// What has been issued of one tenant's programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub instructions: u64,
    pub magic: u64,
    /// Routes times the cycles for which they are taken.
    pub route_epochs: u64,
}

#[derive(Debug)]
pub struct Modelled {
    model: SimDevice,
    /// Image, shots and seed of each space.
    spaces: Vec<Option<(Arc<Image>, u64, u64)>>,
    /// By the seed of the space, if that is metered.
    pub taken: Vec<Taken>,
}

impl Modelled {
    /// Meters spaces with seeds below `metered`.
    pub fn new(logical_qubits: u32, routes_per_epoch: u32, magic_per_epoch: u32, metered: usize) -> Self {
        let config =
            SimConfig { logical_qubits, routes_per_epoch, magic_per_epoch, threads: 1, ..SimConfig::default() };
        Modelled { model: SimDevice::new(config), spaces: Vec::new(), taken: vec![Taken::default(); metered] }
    }
}

impl Device for Modelled {
    forward_device!(
        model: SimDevice;
        except Work, open, issue, issue_range, undo, begin_work, finish, outcome, outcomes, begin_close, interactive,
        snapshots
    );

    type Work = Finished;

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        self.spaces.push(Some((spec.image, spec.shots, spec.seed)));
        Ok(SpaceId(self.spaces.len() as u32 - 1))
    }

    #[inline]
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        if !self.taken.is_empty()
            && let Some((image, _, seed)) = &self.spaces[space.0 as usize]
        {
            let cost = self.model.cost(&image.code[index as usize].op, Patch::default());
            let taken = &mut self.taken[*seed as usize];
            taken.instructions += 1;
            taken.magic += cost.magic as u64;
            taken.route_epochs += cost.routes as u64 * cost.cycles as u64;
        }
        Ok(())
    }

    fn undo(&mut self, _: SpaceId, _: u32) -> Result<(), DeviceError> {
        Ok(())
    }

    fn begin_work(&mut self, space: SpaceId) -> Result<Finished, DeviceError> {
        Ok(Finished(space))
    }

    fn finish(&mut self, work: Finished) -> Result<SpaceStatus, DeviceError> {
        let shots_done = self.spaces[work.0.0 as usize].as_ref().map_or(0, |s| s.1);
        Ok(SpaceStatus { shots_done, ..SpaceStatus::default() })
    }

    fn outcome(&self, _: SpaceId, _: u64, _: u32) -> bool {
        false
    }

    fn outcomes(&self, _: SpaceId, _: u64, _: u32, _: &mut Vec<u8>) {}

    fn begin_close(&mut self, space: SpaceId) -> Option<Finished> {
        self.spaces[space.0 as usize] = None;
        None
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Finished>> {
        Some(self)
    }

    fn snapshots(&mut self) -> Option<&mut dyn Snapshots<Work = Finished>> {
        Some(self)
    }
}

impl Interactive for Modelled {
    type Work = Finished;

    fn begin_perform(&mut self, space: SpaceId, _: Instr) -> Result<Finished, DeviceError> {
        Ok(Finished(space))
    }

    fn begin_link(&mut self, a: Place, _: Place, _: [f64; 3]) -> Result<Finished, DeviceError> {
        Ok(Finished(a.0))
    }
}

impl Snapshots for Modelled {
    type Work = Finished;

    fn begin_snapshot(&mut self, space: SpaceId) -> Result<(SnapshotId, Finished), DeviceError> {
        Ok((SnapshotId(0), Finished(space)))
    }

    fn begin_restore(&mut self, space: SpaceId, _: SnapshotId) -> Result<Finished, DeviceError> {
        Ok(Finished(space))
    }

    fn forget(&mut self, _: SnapshotId) {}
}
