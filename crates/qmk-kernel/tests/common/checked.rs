//! A device that trusts no one: it checks that each instruction is issued once and after all it depends on.

use qmk_kernel::abi::image::{Image, Instr, Op};
use qmk_kernel::hal::{Cost, Device, DeviceError, MachineSpec, SpaceId, SpaceSpec, SpaceStatus};
use qmk_sim::{SimConfig, SimDevice};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub struct Checked {
    inner: SimDevice,
    issued: BTreeMap<SpaceId, (Arc<Image>, Vec<bool>)>,
    granted: BTreeMap<SpaceId, u64>,
}

impl Checked {
    pub fn new(logical_qubits: u32) -> Self {
        let config = SimConfig { logical_qubits, routes_per_epoch: 3, magic_per_epoch: 2, threads: 1 };
        Checked { inner: SimDevice::new(config), issued: BTreeMap::new(), granted: BTreeMap::new() }
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

    fn cost(&self, op: &Op) -> Cost {
        self.inner.cost(op)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let image = spec.image.clone();
        let space = self.inner.open(spec)?;
        self.issued.insert(space, (image.clone(), vec![false; image.code.len()]));
        Ok(space)
    }

    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let (image, issued) = self.issued.get_mut(&space).expect("an open space");
        let at = index as usize;
        assert!(!issued[at], "instruction {at} was issued twice");
        for (earlier, done) in issued[..at].iter().enumerate() {
            let must_wait = depends(image, &image.code[earlier], &image.code[at]);
            assert!(*done || !must_wait, "instruction {at} was issued before {earlier}");
        }
        issued[at] = true;
        self.inner.issue(space, index)
    }

    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        let (_, issued) = &self.issued[&space];
        assert!(issued.iter().all(|&i| i), "work before everything was issued");
        *self.granted.entry(space).or_default() += budget;
        self.inner.work(space, budget)
    }

    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        assert!(self.issued.contains_key(&space), "outcome of a closed space");
        self.inner.outcome(space, shot, event)
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        assert!(self.issued.contains_key(&space), "outcomes of a closed space");
        self.inner.outcomes(space, first, count, out);
    }

    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError> {
        assert!(self.issued.contains_key(&space), "operation on a closed space");
        self.inner.perform(space, instr)
    }

    fn close(&mut self, space: SpaceId) {
        assert!(self.issued.remove(&space).is_some(), "space closed twice");
        self.inner.close(space);
    }
}

impl Checked {
    /// Steps granted so far to the spaces that ever worked, in order of opening.
    pub fn granted(&self) -> Vec<u64> {
        self.granted.values().copied().collect()
    }

    /// Number of open spaces.
    pub fn spaces(&self) -> usize {
        self.issued.len()
    }
}
