//! A simulated device that trusts no one: it checks that each instruction is issued once net of undos and after all it
//! depends on, that what is taken back is unitary and nothing that depends on it is left, and that programs are saved at
//! fences only. It can be told to refuse calls.

use qmk_kernel::abi::image::{CondTerm, Image, Instr, Op, Qubit};
use qmk_kernel::abi::syscall::Patch;
use qmk_kernel::hal::{Cost, Device, DeviceError, MachineSpec, SnapshotId, SpaceId, SpaceSpec, SpaceStatus};
use qmk_sim::{SimConfig, SimDevice};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What a test sees of a device that a kernel has, and what it tells it to refuse.
#[derive(Debug, Default)]
pub struct Probe {
    /// Calls of `undo` after which one is refused.
    pub refuse_undo: Cell<Option<u32>>,
    /// Calls of `perform` after which one is refused.
    pub refuse_perform: Cell<Option<u32>>,
    /// Instructions issued and taken back, in order.
    pub undone: RefCell<Vec<u32>>,
    pub issued: RefCell<Vec<(SpaceId, u32)>>,
    pub snapshots: Cell<u32>,
}

#[derive(Debug)]
pub struct Watch {
    pub sim: SimDevice,
    programs: BTreeMap<SpaceId, (Arc<Image>, Vec<bool>)>,
    interactive: Vec<SpaceId>,
    saved: BTreeMap<SnapshotId, Vec<bool>>,
    probe: Rc<Probe>,
}

impl Watch {
    pub fn new(config: SimConfig) -> (Self, Rc<Probe>) {
        let probe = Rc::<Probe>::default();
        let sim = SimDevice::new(config);
        let (programs, interactive, saved) = Default::default();
        (Watch { sim, programs, interactive, saved, probe: probe.clone() }, probe)
    }

    /// Interactive spaces, in order of opening.
    pub fn interactive(&self) -> &[SpaceId] {
        &self.interactive
    }

    /// Open spaces of programs.
    pub fn programs(&self) -> usize {
        self.programs.len()
    }
}

/// Whether the second instruction must wait for the first.
fn depends(image: &Image, first: &Instr, second: &Instr) -> bool {
    let fence = first.op == Op::Fence || second.op == Op::Fence;
    let qubit = first.op.qubits().any(|q| second.op.qubits().any(|p| p == q));
    let reads = |i: &Instr, e| i.cond.is_some_and(|c| image.cond_terms(c).contains(&CondTerm::Event(e)));
    fence || qubit || first.op.writes().any(|e| reads(second, e))
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
        self.sim.spec()
    }

    fn cost(&self, op: &Op, patch: Patch) -> Cost {
        self.sim.cost(op, patch)
    }

    fn physical_qubits(&self, patch: Patch) -> Option<u32> {
        self.sim.physical_qubits(patch)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let image = spec.image.clone();
        let space = self.sim.open(spec)?;
        if image.code.is_empty() {
            self.interactive.push(space);
        }
        self.programs.insert(space, (image.clone(), vec![false; image.code.len()]));
        Ok(space)
    }

    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let (image, issued) = self.programs.get_mut(&space).expect("an open space");
        let at = index as usize;
        assert!(!issued[at], "instruction {at} was issued twice");
        for (earlier, done) in issued[..at].iter().enumerate() {
            let must_wait = depends(image, &image.code[earlier], &image.code[at]);
            assert!(*done || !must_wait, "instruction {at} was issued before {earlier}");
        }
        issued[at] = true;
        self.probe.issued.borrow_mut().push((space, index));
        self.sim.issue(space, index)
    }

    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        due(&self.probe.refuse_undo)?;
        let (image, issued) = self.programs.get_mut(&space).expect("an open space");
        let at = index as usize;
        assert!(issued[at], "instruction {at} is taken back but not issued");
        for later in (at + 1..issued.len()).filter(|&l| issued[l]) {
            let depends = depends(image, &image.code[at], &image.code[later]);
            assert!(!depends, "instruction {at} is taken back before {later}");
        }
        issued[at] = false;
        self.probe.undone.borrow_mut().push(index);
        self.sim.undo(space, index)
    }

    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        let (_, issued) = &self.programs[&space];
        assert!(issued.iter().all(|&i| i), "work before everything was issued");
        self.sim.work(space, budget)
    }

    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        self.sim.outcome(space, shot, event)
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        self.sim.outcomes(space, first, count, out);
    }

    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError> {
        due(&self.probe.refuse_perform)?;
        self.sim.perform(space, instr)
    }

    fn link(&mut self, a: (SpaceId, Qubit), b: (SpaceId, Qubit), errors: [f64; 3]) -> Result<(), DeviceError> {
        self.sim.link(a, b, errors)
    }

    fn snapshot(&mut self, space: SpaceId) -> Result<SnapshotId, DeviceError> {
        let id = self.sim.snapshot(space)?;
        let (image, issued) = &self.programs[&space];
        if !image.code.is_empty() {
            let next = issued.iter().position(|i| !i).expect("something is left to be issued");
            assert!(issued[next..].iter().all(|i| !i) && image.code[next].op == Op::Fence, "saved beside a fence");
        }
        self.saved.insert(id, issued.clone());
        self.probe.snapshots.set(self.probe.snapshots.get() + 1);
        Ok(id)
    }

    fn restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<(), DeviceError> {
        self.sim.restore(space, snapshot)?;
        let saved = self.saved[&snapshot].clone();
        self.programs.get_mut(&space).expect("an open space").1 = saved;
        Ok(())
    }

    fn forget(&mut self, snapshot: SnapshotId) {
        if self.saved.remove(&snapshot).is_some() {
            self.probe.snapshots.set(self.probe.snapshots.get() - 1);
        }
        self.sim.forget(snapshot);
    }

    fn close(&mut self, space: SpaceId) {
        assert!(self.programs.remove(&space).is_some(), "space closed twice");
        self.interactive.retain(|&s| s != space);
        self.sim.close(space);
    }
}
