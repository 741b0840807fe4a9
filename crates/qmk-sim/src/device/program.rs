//! Spaces that run programs.

use super::interactive::Interactive;
use super::refusal::refused;
use crate::batch::plan::{NoPlan, plan};
use crate::batch::sampler::Sampler;
use crate::batch::shots::Chunk;
use crate::engine::refusal::Refusal;
use crate::noise::BLOCK;
use crate::program::steps::Program;
use crate::single_shot::Direct;
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
    Waiting,
    /// All shots from one plan, those under way in chunks.
    Planned(Arc<Sampler>, Vec<Chunk>),
    /// One shot after the other; the one under way, if any.
    Direct(Box<Program>, Option<Box<Direct>>),
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
            Run::Planned(_, chunks) => chunks.clear(),
            Run::Direct(_, current) => *current = None,
            Run::Interactive(_) | Run::Waiting => {}
        }
    }

    pub(super) fn work(&mut self, budget: u64) -> Result<(), DeviceError> {
        if let Run::Waiting = self.run {
            self.start()?;
        }
        let (image, stride, shots) = (&self.spec.image, self.stride(), self.spec.shots);
        let budget = i64::try_from(budget).unwrap_or(i64::MAX);
        // Below 0 where the last step took more than there was.
        let mut left = budget;
        match &mut self.run {
            Run::Planned(sampler, chunks) => {
                self.status.peak_active = sampler.peak_active();
                while left > 0 && self.status.shots_done < shots {
                    if chunks.is_empty() {
                        // Each thread takes as much as one may.
                        let share = (shots - self.status.shots_done).div_ceil(self.threads as u64);
                        let share = share.checked_next_power_of_two().unwrap_or(share);
                        let lanes = sampler.lanes_for(left as u64).min(share.max(BLOCK));
                        let starts = (self.status.shots_done..shots).step_by(lanes as usize).take(self.threads);
                        chunks.extend(
                            starts.map(|first| Chunk::new(sampler, image, first, lanes.min(shots - first) as usize)),
                        );
                    }
                    let budgets: Vec<i64> = std::thread::scope(|scope| {
                        let advance = |chunk: &mut Chunk| {
                            let mut left = left;
                            // What is not done has spent it all.
                            if chunk.advance(&mut left) { left } else { left.min(0) }
                        };
                        let (mine, others) = chunks.split_first_mut().expect("shots are left");
                        let others: Vec<_> =
                            others.iter_mut().map(|chunk| scope.spawn(move || advance(chunk))).collect();
                        let mut left = vec![advance(mine)];
                        left.extend(others.into_iter().map(|o| o.join().unwrap_or(0)));
                        left
                    });
                    left = budgets.into_iter().min().unwrap_or(0);
                    if !chunks.iter().all(Chunk::is_done) {
                        break;
                    }
                    for chunk in chunks.drain(..) {
                        let from = self.outcomes.len();
                        self.outcomes.resize(from + chunk.shots() * stride, 0);
                        chunk.write(stride, &mut self.outcomes[from..]);
                        self.status.shots_done += chunk.shots() as u64;
                    }
                }
            }
            Run::Direct(program, current) => {
                while self.status.shots_done < shots {
                    let shot = self.status.shots_done;
                    let limit = self.spec.max_active;
                    let direct = current
                        .get_or_insert_with(|| Box::new(Direct::new(program, image, self.spec.seed, shot, limit)));
                    let done = direct.run(program, image, &mut left);
                    self.status.peak_active = self.status.peak_active.max(direct.peak_active());
                    if !done.map_err(|(at, why)| refused(at, why, limit))? {
                        break;
                    }
                    for byte in direct.events.chunks(8) {
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
            Run::Interactive(_) | Run::Waiting => {}
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
            Run::Direct(Box::new(program), None)
        } else {
            match plan(&program, &self.spec.image, limit) {
                Ok(plan) => Run::Planned(Arc::new(Sampler::new(plan, self.spec.seed, self.threads)), Vec::new()),
                // A plan follows both sides of every condition; a shot follows one.
                Err(NoPlan::Refused(at, why @ Refusal::TooManyActive { .. })) if !program.is_conditional() => {
                    return Err(refused(at, why, limit));
                }
                Err(_) => Run::Direct(Box::new(program), None),
            }
        };
        Ok(())
    }
}
