//! The shots of a program.

use super::refusal::{refused, short};
use crate::batch::plan::{Unplannable, plan};
use crate::batch::sampler::Sampler;
use crate::batch::shots::ShotBatch;
use crate::engine::refusal::Refusal;
use crate::ledger::{Charge, Shortage};
use crate::noise::BLOCK;
use crate::program::steps::Program;
use crate::single_shot::SingleShot;
use qmk_abi::image::Image;
use qmk_hal::{Channel, Column, DeviceError, SpaceSpec, SpaceStatus};
use std::sync::Arc;

/// A program, the way in which its shots are run, and the shots under way.
#[derive(Debug)]
pub(super) struct ProgramRun {
    spec: SpaceSpec,
    /// Number of given columns that the noise names.
    named: usize,
    columns: Arc<[Column]>,
    threads: usize,
    stage: Stage,
    /// What the shots under way are charged, registers that grow within a shot apart.
    charge: Charge,
}

/// Why a program does not get on.
enum Stop {
    /// The machine is short of bytes.
    Short(Shortage),
    Failed(DeviceError),
}

impl From<Shortage> for Stop {
    fn from(shortage: Shortage) -> Self {
        Stop::Short(shortage)
    }
}

/// How shots are run.
#[derive(Debug)]
enum Stage {
    /// Not decided: the work has not begun.
    Unplanned,
    /// All shots from one plan, those under way in batches, one for each thread.
    Planned(Arc<Sampler>, Vec<ShotBatch>),
    /// One shot after the other; the one under way, if any.
    Single(Box<Program>, Option<Box<SingleShot>>),
}

impl ProgramRun {
    /// Of a space that is charged as `charge` is.
    pub(super) fn new(spec: SpaceSpec, threads: usize, charge: Charge) -> Self {
        let named = spec.noise.iter().filter_map(|n| match n.channel {
            Channel::Given { column, .. } => Some(column as usize + 1),
            _ => None,
        });
        let named = named.max().unwrap_or(0);
        ProgramRun { spec, named, columns: Arc::default(), threads, stage: Stage::Unplanned, charge }
    }

    pub(super) fn shots(&self) -> u64 {
        self.spec.shots
    }

    /// Takes the Paulis of given channels.
    ///
    /// # Errors
    /// If they are not as many as the noise names, or not as long as there are shots, or the work has begun.
    pub(super) fn give(&mut self, columns: Arc<[Column]>) -> Result<(), DeviceError> {
        let words = self.spec.shots.div_ceil(64) as usize;
        if columns.len() != self.named || columns.iter().any(|c| c.x.len() != words || c.z.len() != words) {
            let named = self.named;
            return Err(DeviceError::Refused(format!("the space needs {named} columns of {words} words each")));
        }
        if !matches!(self.stage, Stage::Unplanned) {
            return Err(DeviceError::Refused("the space's work has begun".into()));
        }
        self.columns = columns;
        Ok(())
    }

    /// Forgets the shots under way.
    pub(super) fn rewind(&mut self) {
        match &mut self.stage {
            Stage::Planned(_, batches) => batches.clear(),
            Stage::Single(_, current) => *current = None,
            Stage::Unplanned => {}
        }
        self.charge.lower(0);
    }

    /// Runs shots from number `status.shots_done` on for about `budget` steps. Appends their outcomes, and counts shots
    /// and steps in `status`.
    ///
    /// Where the bytes are missing that other programs have, it does nothing, and gets on when these have ended.
    ///
    /// # Errors
    /// If columns are missing, an instruction is refused, or bytes are missing that no program gives back.
    pub(super) fn advance(
        &mut self,
        budget: u64,
        status: &mut SpaceStatus,
        outcomes: &mut Vec<u8>,
    ) -> Result<(), DeviceError> {
        match self.try_advance(budget, status, outcomes) {
            Ok(()) => Ok(()),
            Err(Stop::Failed(why)) => Err(why),
            Err(Stop::Short(shortage)) => {
                // Nothing is held while it waits, so that two programs do not wait for each other. A shot that is begun
                // again has the outcomes that it would have had.
                self.rewind();
                if self.charge.may_come_back() { Ok(()) } else { Err(short(shortage)) }
            }
        }
    }

    fn try_advance(&mut self, budget: u64, status: &mut SpaceStatus, outcomes: &mut Vec<u8>) -> Result<(), Stop> {
        if let Stage::Unplanned = self.stage {
            self.stage = self.plan()?;
        }
        let budget = i64::try_from(budget).unwrap_or(i64::MAX);
        // Below 0 where the last step took more than there was.
        let mut left = budget;
        match &mut self.stage {
            Stage::Planned(sampler, batches) => {
                status.peak_active = sampler.peak_active();
                let (image, shots) = (&self.spec.image, self.spec.shots);
                let charge = &mut self.charge;
                run_batches(sampler, batches, image, shots, self.threads, charge, &mut left, status, outcomes)?;
            }
            Stage::Single(program, current) => {
                run_singly(program, current, &self.spec, &mut self.charge, &mut left, status, outcomes)?;
            }
            Stage::Unplanned => {}
        }
        status.steps += budget.saturating_sub(left) as u64;
        Ok(())
    }

    /// Decides how to run the program, now that all of it is issued.
    fn plan(&mut self) -> Result<Stage, Stop> {
        if self.columns.len() < self.named {
            return Err(Stop::Failed(DeviceError::Refused("the Paulis of the space were not given".into())));
        }
        let mut program = Program::new(&self.spec.image, &self.spec.noise);
        program.columns = self.columns.clone();
        let limit = self.spec.max_active;
        if self.spec.shots == 1 {
            return Ok(Stage::Single(Box::new(program), None));
        }
        self.charge.raise(program.tableau_bytes())?;
        let planned = plan(&program, &self.spec.image, limit);
        self.charge.lower(0);
        match planned {
            Ok(plan) => Ok(Stage::Planned(Arc::new(Sampler::new(plan, self.spec.seed, self.threads)), Vec::new())),
            // A plan follows both sides of every condition; a shot follows one.
            Err(Unplannable::Refused(at, why @ Refusal::TooManyActive { .. })) if !program.is_conditional() => {
                Err(Stop::Failed(refused(at, why, limit)))
            }
            Err(_) => Ok(Stage::Single(Box::new(program), None)),
        }
    }
}

/// Runs planned shots, one batch on each thread at a time.
#[allow(clippy::too_many_arguments, reason = "the fields of a run and of its work, borrowed apart")]
fn run_batches(
    sampler: &Arc<Sampler>,
    batches: &mut Vec<ShotBatch>,
    image: &Arc<Image>,
    shots: u64,
    threads: usize,
    charge: &mut Charge,
    left: &mut i64,
    status: &mut SpaceStatus,
    outcomes: &mut Vec<u8>,
) -> Result<(), Shortage> {
    let stride = stride(image);
    while *left > 0 && status.shots_done < shots {
        if batches.is_empty() {
            // Each thread takes as much as one may.
            let share = (shots - status.shots_done).div_ceil(threads as u64);
            let share = share.checked_next_power_of_two().unwrap_or(share);
            let lanes = sampler.lanes_for(*left as u64).min(share.max(BLOCK));
            let starts = (status.shots_done..shots).step_by(lanes as usize).take(threads);
            // Where there is no room for a batch on each thread, one must do.
            let bytes = sampler.batch_bytes(lanes);
            let count = match charge.raise(bytes.saturating_mul(starts.clone().count() as u64)) {
                Ok(()) => threads,
                Err(_) => charge.raise(bytes).map(|()| 1)?,
            };
            let starts = starts.take(count);
            batches
                .extend(starts.map(|first| ShotBatch::new(sampler, image, first, lanes.min(shots - first) as usize)));
        }
        *left = advance_all(batches, *left);
        if !batches.iter().all(ShotBatch::is_done) {
            break;
        }
        for batch in batches.drain(..) {
            let from = outcomes.len();
            outcomes.resize(from + batch.shots() * stride, 0);
            batch.write(stride, &mut outcomes[from..]);
            status.shots_done += batch.shots() as u64;
        }
        charge.lower(0);
    }
    Ok(())
}

/// Lets each batch act for `budget` steps on a thread of its own. Returns the least that one has left of it.
fn advance_all(batches: &mut [ShotBatch], budget: i64) -> i64 {
    let budgets: Vec<i64> = std::thread::scope(|scope| {
        let advance = |batch: &mut ShotBatch| {
            let mut left = budget;
            // A batch that is not done has spent it all.
            if batch.advance(&mut left) { left } else { left.min(0) }
        };
        let (mine, others) = batches.split_first_mut().expect("shots are left");
        let others: Vec<_> = others.iter_mut().map(|batch| scope.spawn(move || advance(batch))).collect();
        let mut left = vec![advance(mine)];
        left.extend(others.into_iter().map(|o| o.join().unwrap_or(0)));
        left
    });
    budgets.into_iter().min().unwrap_or(0)
}

/// Runs shots one after the other.
fn run_singly(
    program: &Program,
    current: &mut Option<Box<SingleShot>>,
    spec: &SpaceSpec,
    charge: &mut Charge,
    left: &mut i64,
    status: &mut SpaceStatus,
    outcomes: &mut Vec<u8>,
) -> Result<(), Stop> {
    let (image, limit) = (&spec.image, spec.max_active);
    while status.shots_done < spec.shots {
        let shot = status.shots_done;
        charge.raise(program.tableau_bytes())?;
        let begin = || Box::new(SingleShot::new(program, image, spec.seed, shot, limit, charge));
        let single = current.get_or_insert_with(begin);
        let done = single.run(program, image, left);
        status.peak_active = status.peak_active.max(single.peak_active());
        let done = done.map_err(|(at, why)| match why {
            Refusal::StateBytes { shortage, .. } => Stop::Short(shortage),
            why => Stop::Failed(refused(at, why, limit)),
        });
        if !done? {
            break;
        }
        for byte in single.events.chunks(8) {
            outcomes.push(byte.iter().enumerate().fold(0, |b, (i, &e)| b | (e as u8) << i));
        }
        // Making and packing a shot takes its time even where nothing happens in it.
        *left = left.saturating_sub(1 + (image.events / 8) as i64);
        *current = None;
        charge.lower(0);
        status.shots_done += 1;
        if *left <= 0 {
            break;
        }
    }
    Ok(())
}

/// Bytes of one shot's outcomes.
pub(super) fn stride(image: &Image) -> usize {
    image.events.div_ceil(8) as usize
}
