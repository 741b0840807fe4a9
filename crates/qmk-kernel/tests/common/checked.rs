//! A device that trusts no one: it checks that each instruction is issued once net of undos and after all it depends on, that
//! it is taken back before what it depends on is, that programs are saved at fences only, and that registers and spaces are in
//! use when they are named.
#![allow(unreachable_pub, missing_docs, dead_code)]

use qmk_kernel::abi::image::{Image, Instr, Op, Qubit};
use qmk_kernel::abi::syscall::Patch;
use qmk_kernel::hal::{Cost, Device, DeviceError, MachineSpec, SnapshotId, SpaceId, SpaceSpec, SpaceStatus};
use qmk_sim::{SimConfig, SimDevice};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was asked of a space.
#[derive(Clone, Debug)]
struct Space {
    image: Arc<Image>,
    issued: Vec<bool>,
    /// Registers in use of an interactive one.
    live: BTreeSet<Qubit>,
}

#[derive(Debug)]
pub struct Checked {
    pub inner: SimDevice,
    spaces: BTreeMap<SpaceId, Space>,
    saved: BTreeMap<SnapshotId, (SpaceId, Space)>,
    /// Steps, and events of the program.
    granted: BTreeMap<SpaceId, (u64, u32)>,
}

/// A small machine.
pub fn small(logical_qubits: u32) -> SimConfig {
    SimConfig { logical_qubits, routes_per_epoch: 3, magic_per_epoch: 2, threads: 1, ..SimConfig::default() }
}

impl Checked {
    pub fn new(logical_qubits: u32) -> Self {
        Self::with(small(logical_qubits))
    }

    pub fn with(config: SimConfig) -> Self {
        Checked {
            inner: SimDevice::new(config),
            spaces: BTreeMap::new(),
            saved: BTreeMap::new(),
            granted: BTreeMap::new(),
        }
    }
}

/// Whether the second instruction must wait for the first.
fn depends(image: &Image, first: &Instr, second: &Instr) -> bool {
    let fence = first.op == Op::Fence || second.op == Op::Fence;
    let qubit = first.op.qubits().any(|q| second.op.qubits().any(|p| p == q));
    let reads = |i: &Instr, e: u32| {
        i.cond.is_some_and(|c| image.cond_terms(c).contains(&qmk_kernel::abi::image::CondTerm::Event(e)))
    };
    fence || qubit || first.op.writes().any(|e| reads(second, e))
}

impl Device for Checked {
    fn spec(&self) -> &MachineSpec {
        self.inner.spec()
    }

    fn cost(&self, op: &Op, patch: Patch) -> Cost {
        self.inner.cost(op, patch)
    }

    fn physical_qubits(&self, patch: Patch) -> Option<u32> {
        self.inner.physical_qubits(patch)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let image = spec.image.clone();
        let space = self.inner.open(spec)?;
        let issued = vec![false; image.code.len()];
        self.spaces.insert(space, Space { image, issued, live: BTreeSet::new() });
        Ok(space)
    }

    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let Space { image, issued, .. } = self.spaces.get_mut(&space).expect("an open space");
        let at = index as usize;
        assert!(!issued[at], "instruction {at} was issued twice");
        for (earlier, done) in issued[..at].iter().enumerate() {
            let must_wait = depends(image, &image.code[earlier], &image.code[at]);
            assert!(*done || !must_wait, "instruction {at} was issued before {earlier}");
        }
        issued[at] = true;
        self.inner.issue(space, index)
    }

    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let Space { image, issued, .. } = self.spaces.get_mut(&space).expect("an open space");
        let at = index as usize;
        assert!(issued[at], "instruction {at} is taken back and was not issued");
        for later in (at + 1..issued.len()).filter(|&later| issued[later]) {
            assert!(!depends(image, &image.code[at], &image.code[later]), "{at} is taken back before {later}");
        }
        issued[at] = false;
        self.inner.undo(space, index)
    }

    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        assert!(self.spaces[&space].issued.iter().all(|&i| i), "work before everything was issued");
        let events = self.spaces[&space].image.events;
        let status = self.inner.work(space, budget)?;
        self.granted.entry(space).or_insert((0, events)).0 += status.steps;
        Ok(status)
    }

    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        assert!(self.spaces.contains_key(&space), "outcome of a closed space");
        self.inner.outcome(space, shot, event)
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        assert!(self.spaces.contains_key(&space), "outcomes of a closed space");
        self.inner.outcomes(space, first, count, out);
    }

    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError> {
        let live = &mut self.spaces.get_mut(&space).expect("operation on a closed space").live;
        for q in instr.op.qubits() {
            let fresh = matches!(instr.op, Op::Alloc(_));
            assert!(live.contains(&q) != fresh, "{:?} of a register that is in use: {}", instr.op, !fresh);
        }
        self.inner.perform(space, instr)?;
        match instr.op {
            Op::Alloc(q) => _ = live.insert(q),
            Op::Free(q) => _ = live.remove(&q),
            _ => {}
        }
        Ok(())
    }

    fn link(&mut self, a: (SpaceId, Qubit), b: (SpaceId, Qubit), errors: [f64; 3]) -> Result<(), DeviceError> {
        for (space, q) in [a, b] {
            assert!(self.spaces[&space].live.contains(&q), "a pair on a register that is not in use");
        }
        self.inner.link(a, b, errors)
    }

    fn snapshot(&mut self, space: SpaceId) -> Result<SnapshotId, DeviceError> {
        let snapshot = self.inner.snapshot(space)?;
        let Space { image, issued, .. } = &self.spaces[&space];
        if !image.code.is_empty() {
            let next = issued.iter().position(|i| !i).expect("something is left to be issued");
            assert!(issued[next..].iter().all(|i| !i) && image.code[next].op == Op::Fence, "saved beside a fence");
        }
        self.saved.insert(snapshot, (space, self.spaces[&space].clone()));
        Ok(snapshot)
    }

    fn restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<(), DeviceError> {
        let (of, saved) = &self.saved[&snapshot];
        assert_eq!(*of, space, "a state of another space");
        self.inner.restore(space, snapshot)?;
        assert_eq!(self.spaces[&space].live, saved.live, "a state of other registers");
        self.spaces.insert(space, saved.clone());
        Ok(())
    }

    fn forget(&mut self, snapshot: SnapshotId) {
        self.saved.remove(&snapshot);
        self.inner.forget(snapshot);
    }

    fn close(&mut self, space: SpaceId) {
        assert!(self.spaces.remove(&space).is_some(), "space closed twice");
        self.inner.close(space);
    }
}

impl Checked {
    /// Steps taken so far for the spaces that ever worked, in order of opening, and how many events their programs have.
    pub fn granted(&self) -> Vec<(u64, u32)> {
        self.granted.values().copied().collect()
    }

    /// Numbers of open spaces and of saved states.
    pub fn kept(&self) -> [usize; 2] {
        [self.spaces.len(), self.saved.len()]
    }

    /// Registers in use in interactive spaces.
    pub fn live(&self) -> usize {
        self.spaces.values().map(|s| s.live.len()).sum()
    }
}
