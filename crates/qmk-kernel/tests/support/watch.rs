//! A checked device that keeps a log of what was taken back and can be told to refuse calls.

use qmk_kernel::abi::image::Instr;
use qmk_kernel::hal::{Device, DeviceError, Interactive, Place, SpaceId, SpaceSpec, forward_device};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Checked;
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
    pub checked: Checked<SimDevice>,
    interactive: Vec<SpaceId>,
    probe: Rc<Probe>,
}

impl Watch {
    pub fn new(config: SimConfig) -> (Self, Rc<Probe>) {
        let probe = Rc::<Probe>::default();
        (Watch { checked: Checked::over(SimDevice::new(config)), interactive: Vec::new(), probe: probe.clone() }, probe)
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
    forward_device!(checked: Checked<SimDevice>; except open, undo, begin_close, interactive);

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let interactive = spec.image.code.is_empty();
        let space = self.checked.open(spec)?;
        if interactive {
            self.interactive.push(space);
        }
        Ok(space)
    }

    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        due(&self.probe.refuse_undo)?;
        self.probe.undone.borrow_mut().push(index);
        self.checked.undo(space, index)
    }

    fn begin_close(&mut self, space: SpaceId) -> Option<Self::Work> {
        self.interactive.retain(|&s| s != space);
        self.checked.begin_close(space)
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Self::Work>> {
        Some(self)
    }
}

impl Interactive for Watch {
    type Work = <Checked<SimDevice> as Device>::Work;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<Self::Work, DeviceError> {
        due(&self.probe.refuse_perform)?;
        self.checked.begin_perform(space, instr)
    }

    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<Self::Work, DeviceError> {
        self.checked.begin_link(a, b, errors)
    }
}
