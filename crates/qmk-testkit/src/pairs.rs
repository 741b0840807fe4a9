//! A device that keeps no amplitudes, only which registers are entangled with which, and a log of what it was told.

use crate::null::NullDevice;
use qmk_kernel::abi::image::{Instr, Op};
use qmk_kernel::hal::{
    Device, DeviceError, Finished, Interactive, LinkSpec, MachineSpec, Place, SpaceId, SpaceSpec, forward_device,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the device was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// To open a space.
    Open(SpaceId),
    /// To close it.
    Close(SpaceId),
    /// To perform an operation.
    Perform(SpaceId, Op),
    /// To entangle two registers.
    Link(Place, Place),
}

/// The device.
#[derive(Debug)]
pub struct Pairs {
    inner: NullDevice,
    /// Open spaces, with their registers in use.
    pub spaces: BTreeMap<SpaceId, BTreeSet<u32>>,
    /// Registers that share a state, apart from those that are alone.
    pub groups: BTreeSet<BTreeSet<Place>>,
    /// What it was told, in order.
    pub log: Vec<Event>,
    measured: BTreeMap<u32, bool>,
}

impl Pairs {
    /// A machine of this many qubits, with raw pairs for any channel in one epoch.
    pub fn new(logical_qubits: u32) -> Self {
        let link = LinkSpec { raw: [1.0, 0.0, 0.0, 0.0], pairs_per_epoch: 1 << 20 };
        let spec = MachineSpec { link, ..NullDevice::new(logical_qubits).spec().clone() };
        let inner = NullDevice::with(spec);
        Pairs { inner, spaces: BTreeMap::new(), groups: BTreeSet::new(), log: Vec::new(), measured: BTreeMap::new() }
    }

    /// The register is alone from now on. Returns those that it was entangled with.
    fn leave(&mut self, place: Place) -> BTreeSet<Place> {
        let group = self.groups.iter().find(|g| g.contains(&place)).cloned().unwrap_or_default();
        self.groups.remove(&group);
        let mut rest = group;
        rest.remove(&place);
        self.join(rest.clone());
        rest
    }

    fn join(&mut self, group: BTreeSet<Place>) {
        if group.len() > 1 {
            self.groups.insert(group);
        }
    }
}

impl Device for Pairs {
    forward_device!(
        inner: NullDevice;
        except open, issue, issue_range, begin_work, outcome, begin_close, interactive
    );

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let space = self.inner.open(spec)?;
        self.spaces.insert(space, BTreeSet::new());
        self.log.push(Event::Open(space));
        Ok(space)
    }

    fn issue(&mut self, _: SpaceId, _: u32) -> Result<(), DeviceError> {
        unreachable!("no strands here")
    }

    fn begin_work(&mut self, _: SpaceId) -> Result<Finished, DeviceError> {
        unreachable!("no strands here")
    }

    fn outcome(&self, _: SpaceId, _: u64, event: u32) -> bool {
        self.measured[&event]
    }

    fn begin_close(&mut self, space: SpaceId) -> Option<Finished> {
        let registers = self.spaces.remove(&space).expect("space closed twice");
        assert!(registers.is_empty(), "registers are left");
        self.log.push(Event::Close(space));
        self.inner.begin_close(space)
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Finished>> {
        Some(self)
    }
}

impl Interactive for Pairs {
    type Work = Finished;

    fn begin_perform(&mut self, space: SpaceId, Instr { op, .. }: Instr) -> Result<Finished, DeviceError> {
        let registers = self.spaces.get_mut(&space).expect("an open space");
        match op {
            Op::Alloc(q) => assert!(registers.insert(q), "register {q} is in use"),
            _ => assert!(op.qubits().all(|q| registers.contains(&q)), "{op:?} on a register that is not in use"),
        }
        match op {
            Op::Alloc(_) | Op::Pauli(..) => {}
            Op::Reset(q) => _ = self.leave((space, q)),
            Op::Free(q) => {
                self.leave((space, q));
                self.spaces.get_mut(&space).expect("an open space").remove(&q);
            }
            Op::MeasureBell(a, b, ..) => {
                let mut rest = self.leave((space, a));
                assert!(!rest.contains(&(space, b)), "a Bell measurement of a pair");
                self.groups.remove(&rest);
                let other = self.leave((space, b));
                self.groups.remove(&other);
                rest.extend(other);
                self.join(rest);
                self.join(BTreeSet::from([(space, a), (space, b)]));
            }
            op => unreachable!("{op:?}"),
        }
        for event in op.writes() {
            // Some draws, different ones from time to time.
            self.measured.insert(event, !(self.log.len() + event as usize).is_multiple_of(3));
        }
        self.log.push(Event::Perform(space, op));
        Ok(Finished(space))
    }

    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<Finished, DeviceError> {
        assert!([a, b].iter().all(|p| self.spaces.get(&p.0).is_some_and(|s| s.contains(&p.1))), "registers in use");
        assert!(a.0 != b.0 && errors == [0.0; 3]);
        self.leave(a);
        self.leave(b);
        self.join(BTreeSet::from([a, b]));
        self.log.push(Event::Link(a, b));
        Ok(Finished(a.0))
    }
}
