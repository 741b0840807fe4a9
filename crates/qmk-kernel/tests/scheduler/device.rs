//! The device of these tests.

use qmk_kernel::abi::image::{Image, Instr, Op};
use qmk_kernel::abi::syscall::{Level, NoiseSpec, Patch};
use qmk_kernel::hal::{
    Cost, Device, DeviceError, Errors, Interactive, Place, Progress, SpaceId, SpaceSpec, SpaceStatus, Work,
    forward_device,
};
use qmk_testkit::NullDevice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shots of a program that does not end.
pub(crate) const ENDLESS: u64 = 1 << 40;
/// The least that the first tenant's shots take of the device at once.
pub(crate) const LONG: u64 = 1 << 24;

/// A machine that does nothing, and counts the instructions and magic states of each seed. It has costs of its own, in
/// terms of which the bounds are stated, and work of its own, which takes steps without end where a test asks for it.
#[derive(Debug)]
pub(crate) struct Metered {
    pub(crate) inner: NullDevice,
    /// Images, shots and seeds of spaces, by their number.
    pub(crate) spaces: Vec<(Arc<Image>, u64, u64)>,
    pub(crate) issued: Vec<u64>,
    pub(crate) magic: Vec<u64>,
    /// Steps of each seed's shots where there are many, which never end.
    pub(crate) worked: Vec<u64>,
    pub(crate) all_magic: u64,
    /// Space, routes, and the epoch in which they are given back.
    pub(crate) routes: Vec<(SpaceId, u32, u64)>,
    /// Those of each space.
    pub(crate) errors: Vec<NoiseSpec>,
    pub(crate) epoch: Arc<AtomicU64>,
}

pub(crate) fn cost(op: &Op) -> Cost {
    let c = |cycles, magic, routes| Cost { cycles, magic, routes };
    match op {
        Op::Clifford1(..) => c(3, 0, 0),
        Op::Measure(..) => c(1, 0, 0),
        Op::Clifford2(..) => c(2, 0, 1),
        Op::T(_) => c(2, 1, 1),
        Op::Ccz(..) => c(4, 4, 2),
        Op::Rotate(..) => c(46, 23, 1),
        _ => c(0, 0, 0),
    }
}

impl Device for Metered {
    forward_device!(
        inner: NullDevice;
        except Work, cost, errors, open, issue, issue_range, begin_work, finish, begin_close, interactive, snapshots
    );

    type Work = MeteredWork;

    fn cost(&self, op: &Op, _: Patch) -> Cost {
        cost(op)
    }
    /// The rate says how long decoding takes.
    fn errors(&self, _: Patch, noise: NoiseSpec) -> Result<Errors, String> {
        match noise.level {
            Level::Ideal => Ok(Errors::default()),
            Level::Logical => Ok(Errors { decoding: noise.ppb, warning: None }),
            Level::Physical => Err("no such patches are sampled".into()),
        }
    }
    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        self.errors.push(spec.errors);
        self.spaces.push((spec.image.clone(), spec.shots, spec.seed));
        self.inner.open(spec)
    }
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let (image, _, seed) = &self.spaces[space.0 as usize];
        let seed = *seed as usize % self.issued.len();
        self.issued[seed] += 1;
        let cost = cost(&image.code[index as usize].op);
        self.magic[seed] += cost.magic as u64;
        self.all_magic += cost.magic as u64;
        let now = self.epoch.load(Relaxed);
        self.routes.push((space, cost.routes, now + cost.cycles as u64));
        Ok(())
    }
    fn begin_work(&mut self, space: SpaceId) -> Result<MeteredWork, DeviceError> {
        let (_, shots, seed) = self.spaces[space.0 as usize];
        Ok(MeteredWork { space, endless: shots >= ENDLESS, least: if seed == 0 { LONG } else { 0 }, steps: 0 })
    }
    fn finish(&mut self, work: MeteredWork) -> Result<SpaceStatus, DeviceError> {
        let (_, shots, seed) = self.spaces[work.space.0 as usize];
        if !work.endless {
            return Ok(SpaceStatus { shots_done: shots, ..SpaceStatus::default() });
        }
        self.worked[seed as usize] += work.steps;
        Ok(SpaceStatus { steps: work.steps, ..SpaceStatus::default() })
    }
    fn begin_close(&mut self, space: SpaceId) -> Option<MeteredWork> {
        self.routes.retain(|r| r.0 != space);
        self.inner.begin_close(space);
        None
    }
    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = MeteredWork>> {
        Some(self)
    }
}

impl Interactive for Metered {
    type Work = MeteredWork;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<MeteredWork, DeviceError> {
        self.all_magic += cost(&instr.op).magic as u64;
        Ok(MeteredWork { space, endless: false, least: 0, steps: 0 })
    }
    fn begin_link(&mut self, a: Place, _: Place, _: [f64; 3]) -> Result<MeteredWork, DeviceError> {
        Ok(MeteredWork { space: a.0, endless: false, least: 0, steps: 0 })
    }
}

/// Shots that are done at once or never.
pub(crate) struct MeteredWork {
    pub(crate) space: SpaceId,
    pub(crate) endless: bool,
    /// The least that a step takes: the first tenant's steps are long ones.
    pub(crate) least: u64,
    pub(crate) steps: u64,
}

impl Work for MeteredWork {
    fn space(&self) -> SpaceId {
        self.space
    }
    fn step(&mut self, budget: u64) -> Progress {
        if !self.endless {
            return Progress::Done;
        }
        self.steps += budget.max(self.least);
        Progress::More
    }
}
