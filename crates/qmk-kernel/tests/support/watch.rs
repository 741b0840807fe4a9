//! A checked device that keeps a log of what was taken back and can be told to refuse calls.

use super::checked::Checked;
use qmk_kernel::abi::image::{Instr, Op, Qubit};
use qmk_kernel::abi::syscall::Patch;
use qmk_kernel::hal::{Cost, Device, DeviceError, MachineSpec, SnapshotId, SpaceId, SpaceSpec, SpaceStatus};
use qmk_sim::SimConfig;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What a test sees of a device that a kernel has, and what it tells it to refuse.
#[derive(Debug, Default)]
pub struct Probe {
    /// Calls of `undo` after which one is refused.
    pub refuse_undo: Cell<Option<u32>>,
    /// Calls of `perform` after which one is refused.
    pub refuse_perform: Cell<Option<u32>>,
    /// Instructions taken back, in order.
    pub undone: RefCell<Vec<u32>>,
}

#[derive(Debug)]
pub struct Watch {
    pub checked: Checked,
    interactive: Vec<SpaceId>,
    probe: Rc<Probe>,
}

impl Watch {
    pub fn new(config: SimConfig) -> (Self, Rc<Probe>) {
        let probe = Rc::<Probe>::default();
        (Watch { checked: Checked::with(config), interactive: Vec::new(), probe: probe.clone() }, probe)
    }

    /// Interactive spaces, in order of opening.
    pub fn interactive(&self) -> &[SpaceId] {
        &self.interactive
    }
}

fn due(counter: &Cell<Option<u32>>) -> Result<(), DeviceError> {
    match counter.get() {
        Some(0) => {
            counter.set(None);
            Err(DeviceError::Refused("told to refuse".into()))
        }
        left => {
            counter.set(left.map(|n| n - 1));
            Ok(())
        }
    }
}

impl Device for Watch {
    fn spec(&self) -> &MachineSpec {
        self.checked.spec()
    }

    fn cost(&self, op: &Op, patch: Patch) -> Cost {
        self.checked.cost(op, patch)
    }

    fn physical_qubits(&self, patch: Patch) -> Option<u32> {
        self.checked.physical_qubits(patch)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let interactive = spec.image.code.is_empty();
        let space = self.checked.open(spec)?;
        if interactive {
            self.interactive.push(space);
        }
        Ok(space)
    }

    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        self.checked.issue(space, index)
    }

    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        due(&self.probe.refuse_undo)?;
        self.probe.undone.borrow_mut().push(index);
        self.checked.undo(space, index)
    }

    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        self.checked.work(space, budget)
    }

    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        self.checked.outcome(space, shot, event)
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        self.checked.outcomes(space, first, count, out);
    }

    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError> {
        due(&self.probe.refuse_perform)?;
        self.checked.perform(space, instr)
    }

    fn link(&mut self, a: (SpaceId, Qubit), b: (SpaceId, Qubit), errors: [f64; 3]) -> Result<(), DeviceError> {
        self.checked.link(a, b, errors)
    }

    fn snapshot(&mut self, space: SpaceId) -> Result<SnapshotId, DeviceError> {
        self.checked.snapshot(space)
    }

    fn restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<(), DeviceError> {
        self.checked.restore(space, snapshot)
    }

    fn forget(&mut self, snapshot: SnapshotId) {
        self.checked.forget(snapshot);
    }

    fn close(&mut self, space: SpaceId) {
        self.interactive.retain(|&s| s != space);
        self.checked.close(space);
    }
}
