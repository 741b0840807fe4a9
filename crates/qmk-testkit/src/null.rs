//! A device that keeps no state.

use qmk_kernel::abi::image::{Image, Instr, Op};
use qmk_kernel::abi::syscall::Patch;
use qmk_kernel::hal::{
    Cost, Device, DeviceError, Features, Finished, Interactive, LinkSpec, MachineSpec, Place, SpaceId, SpaceSpec,
    SpaceStatus,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Does nothing, at once: every operation takes one cycle, every outcome is 0, states cannot be saved.
///
/// The kernel does with it all that it does with a real machine, so it is the device for tests of the kernel alone.
#[derive(Debug)]
pub struct NullDevice {
    spec: MachineSpec,
    /// Open spaces: their programs and shots.
    spaces: BTreeMap<SpaceId, (Arc<Image>, u64)>,
    opened: u32,
}

impl NullDevice {
    /// A machine of this many logical qubits, each a patch of 100 physical ones; with half as many routes, four magic
    /// states an epoch, and perfect pairs.
    pub fn new(logical_qubits: u32) -> Self {
        NullDevice::with(MachineSpec {
            logical_qubits,
            routes_per_epoch: logical_qubits / 2,
            magic_per_epoch: 4,
            magic_buffer: 64,
            decoded_per_epoch: logical_qubits,
            link: LinkSpec { raw: [1.0, 0.0, 0.0, 0.0], pairs_per_epoch: 16 },
            features: Features::default(),
        })
    }

    /// A machine of this description.
    pub fn with(spec: MachineSpec) -> Self {
        NullDevice { spec, spaces: BTreeMap::new(), opened: 0 }
    }

    /// Spaces that are open.
    pub fn open_spaces(&self) -> usize {
        self.spaces.len()
    }

    fn space(&self, space: SpaceId) -> Result<&(Arc<Image>, u64), DeviceError> {
        self.spaces.get(&space).ok_or_else(|| DeviceError::Refused("no such space".into()))
    }
}

impl Device for NullDevice {
    type Work = Finished;

    fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    fn cost(&self, op: &Op, _: Patch) -> Cost {
        let routes = (op.operands().1 == 2).into();
        match op {
            Op::T(_) | Op::Tdg(_) | Op::Rotate(..) | Op::InjectT(_) => Cost { cycles: 1, magic: 1, routes },
            Op::Ccz(..) | Op::Toffoli(..) => Cost { cycles: 1, magic: 4, routes },
            _ => Cost { cycles: 1, magic: 0, routes },
        }
    }

    fn physical_qubits(&self, _: Patch) -> Option<u32> {
        Some(100)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let space = SpaceId(self.opened);
        self.opened += 1;
        self.spaces.insert(space, (spec.image, spec.shots));
        Ok(space)
    }

    fn issue(&mut self, space: SpaceId, _: u32) -> Result<(), DeviceError> {
        self.space(space).map(drop)
    }

    fn undo(&mut self, space: SpaceId, _: u32) -> Result<(), DeviceError> {
        self.space(space).map(drop)
    }

    fn begin_work(&mut self, space: SpaceId) -> Result<Finished, DeviceError> {
        self.space(space).map(|_| Finished(space))
    }

    fn finish(&mut self, work: Finished) -> Result<SpaceStatus, DeviceError> {
        let shots_done = self.spaces.get(&work.0).map_or(0, |(_, shots)| *shots);
        Ok(SpaceStatus { shots_done, steps: 1, ..SpaceStatus::default() })
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        let Ok((image, shots)) = self.space(space) else { return };
        let shots = shots.saturating_sub(first).min(count.into()) as usize;
        out.resize(out.len() + shots * image.events.div_ceil(8) as usize, 0);
    }

    fn begin_close(&mut self, space: SpaceId) -> Option<Finished> {
        self.spaces.remove(&space);
        None
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Finished>> {
        Some(self)
    }
}

impl Interactive for NullDevice {
    type Work = Finished;

    fn begin_perform(&mut self, space: SpaceId, _: Instr) -> Result<Finished, DeviceError> {
        self.space(space).map(|_| Finished(space))
    }

    fn begin_link(&mut self, a: Place, b: Place, _: [f64; 3]) -> Result<Finished, DeviceError> {
        self.space(b.0)?;
        self.space(a.0).map(|_| Finished(a.0))
    }
}
