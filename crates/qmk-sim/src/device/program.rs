//! Spaces that run programs.

use super::interactive::Interactive;
use super::refusal::refused;
use crate::batch::plan::{Unplannable, plan};
use crate::batch::sampler::Sampler;
use crate::batch::shots::ShotBatch;
use crate::engine::refusal::Refusal;
use crate::noise::BLOCK;
use crate::program::steps::Program;
use crate::single_shot::SingleShot;
use qmk_hal::{Column, DeviceError, SpaceSpec, SpaceStatus};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Space {
    pub(super) spec: SpaceSpec,
    /// Number of given columns that the noise names, and these.
    pub(super) named: usize,
    pub(super) columns: Arc<[Column]>,
    pub(super) threads: usize,
    pub(super) issued: usize,
    pub(super) run: Run,
    pub(super) outcomes: Vec<u8>,
    pub(super) status: SpaceStatus,
    pub(super) fault: Option<DeviceError>,
}

/// How a space is simulated.
#[derive(Debug)]
pub(super) enum Run {
    /// One instruction at a time, as they come.
    Interactive(Interactive),
    /// A program that waits for its last instruction.
    Unplanned,
    /// All shots from one plan, those under way in batches.
    Planned(Arc<Sampler>, Vec<ShotBatch>),
    /// One shot after the other; the one under way, if any.
    Single(Box<Program>, Option<Box<SingleShot>>),
}

impl Space {
    /// Bytes of one shot's outcomes.
    pub(super) fn stride(&self) -> usize {
        self.spec.image.events.div_ceil(8) as usize
    }

    /// Forgets all but the first `shots` shots, and what went wrong: the others are run again.
    pub(super) fn rewind(&mut self, shots: u64) {
        self.status.shots_done = self.status.shots_done.min(shots);
        self.outcomes.truncate(self.status.shots_done as usize * self.stride());
        self.fault = None;
        match &mut self.run {
            Run::Planned(_, batches) => batches.clear(),
            Run::Single(_, current) => *current = None,
            Run::Interactive(_) | Run::Unplanned => {}
        }
    }

    pub(super) fn work(&mut self, budget: u64) -> Result<(), DeviceError> {
        if let Run::Unplanned = self.run {
            self.start()?;
        }
        let (image, stride, shots) = (&self.spec.image, self.stride(), self.spec.shots);
        let budget = i64::try_from(budget).unwrap_or(i64::MAX);
        // Below 0 where the last step took more than there was.
        let mut left = budget;
        match &mut self.run {
            Run::Planned(sampler, batches) => {
                self.status.peak_active = sampler.peak_active();
                while left > 0 && self.status.shots_done < shots {
                    if batches.is_empty() {
                        // Each thread takes as much as one may.
                        let share = (shots - self.status.shots_done).div_ceil(self.threads as u64);
                        let share = share.checked_next_power_of_two().unwrap_or(share);
                        let lanes = sampler.lanes_for(left as u64).min(share.max(BLOCK));
                        let starts = (self.status.shots_done..shots).step_by(lanes as usize).take(self.threads);
                        batches.extend(
                            starts
                                .map(|first| ShotBatch::new(sampler, image, first, lanes.min(shots - first) as usize)),
                        );
                    }
                    let budgets: Vec<i64> = std::thread::scope(|scope| {
                        let advance = |batch: &mut ShotBatch| {
                            let mut left = left;
                            // What is not done has spent it all.
                            if batch.advance(&mut left) { left } else { left.min(0) }
                        };
                        let (mine, others) = batches.split_first_mut().expect("shots are left");
                        let others: Vec<_> =
                            others.iter_mut().map(|batch| scope.spawn(move || advance(batch))).collect();
                        let mut left = vec![advance(mine)];
                        left.extend(others.into_iter().map(|o| o.join().unwrap_or(0)));
                        left
                    });
                    left = budgets.into_iter().min().unwrap_or(0);
                    if !batches.iter().all(ShotBatch::is_done) {
                        break;
                    }
                    for batch in batches.drain(..) {
                        let from = self.outcomes.len();
                        self.outcomes.resize(from + batch.shots() * stride, 0);
                        batch.write(stride, &mut self.outcomes[from..]);
                        self.status.shots_done += batch.shots() as u64;
                    }
                }
            }
            Run::Single(program, current) => {
                while self.status.shots_done < shots {
                    let shot = self.status.shots_done;
                    let limit = self.spec.max_active;
                    let single = current
                        .get_or_insert_with(|| Box::new(SingleShot::new(program, image, self.spec.seed, shot, limit)));
                    let done = single.run(program, image, &mut left);
                    self.status.peak_active = self.status.peak_active.max(single.peak_active());
                    if !done.map_err(|(at, why)| refused(at, why, limit))? {
                        break;
                    }
                    for byte in single.events.chunks(8) {
                        self.outcomes.push(byte.iter().enumerate().fold(0, |b, (i, &e)| b | (e as u8) << i));
                    }
                    // Making and packing a shot takes its time even where nothing happens in it.
                    left = left.saturating_sub(1 + (image.events / 8) as i64);
                    *current = None;
                    self.status.shots_done += 1;
                    if left <= 0 {
                        break;
                    }
                }
            }
            Run::Interactive(_) | Run::Unplanned => {}
        }
        self.status.steps = budget.saturating_sub(left) as u64;
        Ok(())
    }

    /// Decides how to run the program, now that all of it is issued.
    pub(super) fn start(&mut self) -> Result<(), DeviceError> {
        if self.columns.len() < self.named {
            return Err(DeviceError::Refused("the Paulis of the space were not given".into()));
        }
        let mut program = Program::new(&self.spec.image, &self.spec.noise);
        program.columns = self.columns.clone();
        let limit = self.spec.max_active;
        self.run = if self.spec.shots == 1 {
            Run::Single(Box::new(program), None)
        } else {
            match plan(&program, &self.spec.image, limit) {
                Ok(plan) => Run::Planned(Arc::new(Sampler::new(plan, self.spec.seed, self.threads)), Vec::new()),
                // A plan follows both sides of every condition; a shot follows one.
                Err(Unplannable::Refused(at, why @ Refusal::TooManyActive { .. })) if !program.is_conditional() => {
                    return Err(refused(at, why, limit));
                }
                Err(_) => Run::Single(Box::new(program), None),
            }
        };
        Ok(())
    }
}
