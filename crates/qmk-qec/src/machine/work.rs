//! What a machine of patches hands out.

use super::error_columns::ErrorColumns;
use qmk_hal::{Progress, SpaceId, Work};

/// Work of a [`NoisyDevice`](super::NoisyDevice) machine over one whose work is W.
pub struct PatchWork<W>(pub(super) Kind<W>);

pub(super) enum Kind<W> {
    Inner(W),
    Sampling(Box<Sampling>),
}

/// The errors of a program are sampled, before its first shot.
pub(super) struct Sampling {
    pub(super) space: SpaceId,
    pub(super) sampled: ErrorColumns,
    pub(super) threads: usize,
    /// Elementary steps since the work began.
    pub(super) steps: u64,
}

impl<W> PatchWork<W> {
    pub(super) fn inner(work: W) -> Self {
        PatchWork(Kind::Inner(work))
    }

    pub(super) fn sampling(space: SpaceId, sampled: ErrorColumns, threads: usize) -> Self {
        PatchWork(Kind::Sampling(Box::new(Sampling { space, sampled, threads, steps: 0 })))
    }
}

impl<W: Work> Work for PatchWork<W> {
    fn space(&self) -> SpaceId {
        match &self.0 {
            Kind::Inner(work) => work.space(),
            Kind::Sampling(s) => s.space,
        }
    }

    #[inline]
    fn step(&mut self, budget: u64) -> Progress {
        match &mut self.0 {
            Kind::Inner(work) => work.step(budget),
            Kind::Sampling(s) => {
                s.steps += s.sampled.advance(budget.max(1), s.threads);
                // The machine below takes what was sampled and goes on with the shots.
                if s.sampled.is_done() { Progress::Return } else { Progress::More }
            }
        }
    }
}
