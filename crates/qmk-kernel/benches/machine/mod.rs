//! The modelled machine without its physics: costs are those of the simulated device, and shots are done at once, so
//! that what is measured is the kernel.
#![allow(dead_code, unreachable_pub, reason = "each bench uses a part")]

use qmk_abi::image::{Image, Instr, Op, Qubit};
use qmk_abi::syscall::Patch;
use qmk_hal::{Cost, Device, DeviceError, MachineSpec, SnapshotId, SpaceId, SpaceSpec, SpaceStatus};
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
    fn spec(&self) -> &MachineSpec {
        self.model.spec()
    }

    #[inline]
    fn cost(&self, op: &Op, patch: Patch) -> Cost {
        self.model.cost(op, patch)
    }

    fn physical_qubits(&self, patch: Patch) -> Option<u32> {
        self.model.physical_qubits(patch)
    }

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

    fn work(&mut self, space: SpaceId, _: u64) -> Result<SpaceStatus, DeviceError> {
        let shots_done = self.spaces[space.0 as usize].as_ref().map_or(0, |s| s.1);
        Ok(SpaceStatus { shots_done, ..SpaceStatus::default() })
    }

    fn outcome(&self, _: SpaceId, _: u64, _: u32) -> bool {
        false
    }

    fn outcomes(&self, _: SpaceId, _: u64, _: u32, _: &mut Vec<u8>) {}

    fn perform(&mut self, _: SpaceId, _: Instr) -> Result<(), DeviceError> {
        Ok(())
    }

    fn link(&mut self, _: (SpaceId, Qubit), _: (SpaceId, Qubit), _: [f64; 3]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn snapshot(&mut self, _: SpaceId) -> Result<SnapshotId, DeviceError> {
        Ok(SnapshotId(0))
    }

    fn restore(&mut self, _: SpaceId, _: SnapshotId) -> Result<(), DeviceError> {
        Ok(())
    }

    fn forget(&mut self, _: SnapshotId) {}

    fn close(&mut self, space: SpaceId) {
        self.spaces[space.0 as usize] = None;
    }
}
