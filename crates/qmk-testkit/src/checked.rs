//! A device that trusts no one: it checks that each instruction is issued once net of undos and after all it depends
//! on, that it is taken back before what it depends on is, that programs are saved at fences only, and that registers
//! and spaces are in use when they are named.

use qmk_kernel::abi::image::{Image, Instr, Op, Qubit};
use qmk_kernel::hal::{
    Device, DeviceError, Inline, Interactive, Place, SnapshotId, Snapshots, SpaceId, SpaceSpec, SpaceStatus, Work,
    forward_device,
};
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

/// What work is for whose success or failure is noted.
#[derive(Debug)]
enum Out {
    Shots,
    Perform(Op),
    Save(SnapshotId),
    Restore(Space),
}

/// A device whose calls are checked. It panics at a wrong one.
#[derive(Debug)]
pub struct Checked<D> {
    /// The device.
    pub inner: D,
    spaces: BTreeMap<SpaceId, Space>,
    saved: BTreeMap<SnapshotId, (SpaceId, Space)>,
    /// What the work of a space is for, while it is out.
    out: BTreeMap<SpaceId, Out>,
    /// Steps, and events of the program.
    granted: BTreeMap<SpaceId, (u64, u32)>,
}

impl<D: Device> Checked<D> {
    /// Checks all that is asked of a device from now on.
    pub fn over(inner: D) -> Self {
        Checked {
            inner,
            spaces: BTreeMap::new(),
            saved: BTreeMap::new(),
            out: BTreeMap::new(),
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

impl<D: Device> Device for Checked<D> {
    forward_device!(inner: D; except open, issue, issue_range, undo, begin_work, finish, outcome, outcomes, begin_close, interactive, snapshots);

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

    fn begin_work(&mut self, space: SpaceId) -> Result<D::Work, DeviceError> {
        assert!(self.spaces[&space].issued.iter().all(|&i| i), "work before everything was issued");
        let work = self.inner.begin_work(space)?;
        self.out.insert(space, Out::Shots);
        Ok(work)
    }

    fn finish(&mut self, work: D::Work) -> Result<SpaceStatus, DeviceError> {
        let space = work.space();
        let out = self.out.remove(&space);
        let status = self.inner.finish(work);
        if let (Some(Out::Save(snapshot)), Err(_)) = (&out, &status) {
            // There is none then.
            self.saved.remove(snapshot);
        }
        let status = status?;
        match out {
            Some(Out::Shots) => {
                let events = self.spaces[&space].image.events;
                self.granted.entry(space).or_insert((0, events)).0 += status.steps;
            }
            Some(Out::Perform(op)) => {
                let live = &mut self.spaces.get_mut(&space).expect("an open space").live;
                match op {
                    Op::Alloc(q) => _ = live.insert(q),
                    Op::Free(q) => _ = live.remove(&q),
                    _ => {}
                }
            }
            Some(Out::Restore(saved)) => {
                assert_eq!(self.spaces[&space].live, saved.live, "a state of other registers");
                self.spaces.insert(space, saved);
            }
            Some(Out::Save(_)) | None => {}
        }
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

    fn begin_close(&mut self, space: SpaceId) -> Option<D::Work> {
        assert!(self.spaces.remove(&space).is_some(), "space closed twice");
        self.inner.begin_close(space)
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = D::Work>> {
        if self.inner.interactive().is_some() { Some(self) } else { None }
    }

    fn snapshots(&mut self) -> Option<&mut dyn Snapshots<Work = D::Work>> {
        if self.inner.snapshots().is_some() { Some(self) } else { None }
    }
}

impl<D: Device> Interactive for Checked<D> {
    type Work = D::Work;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<D::Work, DeviceError> {
        let live = &self.spaces.get(&space).expect("operation on a closed space").live;
        for q in instr.op.qubits() {
            let fresh = matches!(instr.op, Op::Alloc(_));
            assert!(live.contains(&q) != fresh, "{:?} of a register that is in use: {}", instr.op, !fresh);
        }
        let work = self.inner.qubits()?.begin_perform(space, instr)?;
        self.out.insert(space, Out::Perform(instr.op));
        Ok(work)
    }

    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<D::Work, DeviceError> {
        for (space, q) in [a, b] {
            assert!(self.spaces[&space].live.contains(&q), "a pair on a register that is not in use");
        }
        self.inner.qubits()?.begin_link(a, b, errors)
    }
}

impl<D: Device> Snapshots for Checked<D> {
    type Work = D::Work;

    fn begin_snapshot(&mut self, space: SpaceId) -> Result<(SnapshotId, D::Work), DeviceError> {
        let (snapshot, work) = self.inner.copies()?.begin_snapshot(space)?;
        let Space { image, issued, .. } = &self.spaces[&space];
        if !image.code.is_empty() {
            let next = issued.iter().position(|i| !i).expect("something is left to be issued");
            assert!(issued[next..].iter().all(|i| !i) && image.code[next].op == Op::Fence, "saved beside a fence");
        }
        self.saved.insert(snapshot, (space, self.spaces[&space].clone()));
        self.out.insert(space, Out::Save(snapshot));
        Ok((snapshot, work))
    }

    fn begin_restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<D::Work, DeviceError> {
        let (of, saved) = &self.saved[&snapshot];
        assert_eq!(*of, space, "a state of another space");
        let work = self.inner.copies()?.begin_restore(space, snapshot)?;
        self.out.insert(space, Out::Restore(saved.clone()));
        Ok(work)
    }

    fn forget(&mut self, snapshot: SnapshotId) {
        self.saved.remove(&snapshot);
        Inline::forget(&mut self.inner, snapshot);
    }
}

impl<D: Device> Checked<D> {
    /// Steps taken so far for each space that ever worked, and the count of its program's events, in order of opening.
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
