//! Work that a device hands out.

use crate::space::SpaceId;

/// Something that a device has to do for a space and that takes time.
///
/// Work is a value of its own. It holds all that it needs, so it can be stepped on any thread while the device answers
/// other calls. What it has done counts once [`Device::finish`](crate::Device::finish) has it back.
pub trait Work: Send {
    /// The space that the work is for.
    fn space(&self) -> SpaceId;

    /// Does more, for at most about `budget` elementary steps. An elementary step is one instruction of one shot, or
    /// what takes as long; a single action may take more than the budget. With a budget of at least 1 the work gets on.
    ///
    /// A failure ends the work: it is done, and [`Device::finish`](crate::Device::finish) gives the reason.
    fn step(&mut self, budget: u64) -> Progress;
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The budget is spent. The work can be stepped again or be given back.
    More,
    /// Only the device can go on: give the work back and begin again.
    Return,
    /// Nothing is left to be done, or the work failed.
    Done,
}

/// Work of a device that does everything as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished(pub SpaceId);

impl Work for Finished {
    fn space(&self) -> SpaceId {
        self.0
    }

    fn step(&mut self, _budget: u64) -> Progress {
        Progress::Done
    }
}
