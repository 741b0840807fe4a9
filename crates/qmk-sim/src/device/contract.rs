//! Programs, and how work is begun and finished.

use super::cost::{cost, physical_qubits};
use super::machine::{SimDevice, unused};
use super::program::{ProgramRun, stride};
use super::refusal::{no_space, short};
use super::shared_state::{Draw, SharedState};
use super::space::{InteractiveSpace, Memory, ProgramSpace, Space};
use super::work::{Close, Kind, Shots, SimWork};
use crate::ledger::Charge;
use crate::program::check::check_noise;
use crate::rng::DrawSite;
use qmk_abi::image::Op;
use qmk_abi::syscall::{Level, Patch};
use qmk_hal::{
    Column, Cost, Device, DeviceError, Interactive, MachineSpec, Snapshots, SpaceId, SpaceSpec, SpaceStatus, Work,
};
use std::ops::Range;
use std::sync::Arc;

/// Outcomes of one space may take this many bytes.
const MAX_OUTCOME_BYTES: u64 = 256 << 20;

impl Device for SimDevice {
    type Work = SimWork;

    fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    #[inline]
    fn cost(&self, op: &Op, _patch: Patch) -> Cost {
        cost(op)
    }

    fn physical_qubits(&self, patch: Patch) -> Option<u32> {
        physical_qubits(patch)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        check_spec(&spec)?;
        let mut charge = Charge::new(&self.ledger, spec.owner);
        charge.raise(outcome_bytes(&spec)).map_err(short)?;
        let id = unused(&self.spaces, &mut self.next_space);
        let space = if spec.image.code.is_empty() {
            let state = unused(&self.states, &mut self.next_state);
            self.put_state(state, Box::new(SharedState::new(id, spec.max_active, charge)));
            let (seed, memory) = (spec.seed, Memory::default());
            Space::Interactive(InteractiveSpace { state, seed, memory, at: 0, peak_active: 0 })
        } else {
            let run = ProgramRun::new(spec.clone(), self.threads, charge.passing());
            Space::Program(ProgramSpace {
                image: spec.image,
                issued: 0,
                outcomes: Vec::new(),
                charge,
                status: SpaceStatus::default(),
                fault: None,
                run: Some(Box::new(run)),
            })
        };
        self.spaces.insert(id, space);
        Ok(SpaceId(id))
    }

    #[inline]
    fn issue(&mut self, space: SpaceId, _index: u32) -> Result<(), DeviceError> {
        let space = self.program(space)?;
        space.run()?;
        space.issued += 1;
        Ok(())
    }

    fn issue_range(&mut self, space: SpaceId, indices: Range<u32>) -> Result<(), DeviceError> {
        let space = self.program(space)?;
        space.run()?;
        space.issued += indices.len();
        Ok(())
    }

    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let space = self.program(space)?;
        let op = space.image.code.get(index as usize).map(|i| i.op);
        let unitary = op.is_some_and(|op| {
            op.writes().next().is_none() && !matches!(op, Op::Free(_) | Op::Reset(_) | Op::InjectT(_))
        });
        if !unitary || space.issued == 0 {
            return Err(DeviceError::Refused(format!("no unitary instruction {index} has been issued")));
        }
        space.rewind()?;
        space.issued -= 1;
        Ok(())
    }

    fn give(&mut self, space: SpaceId, columns: Arc<[Column]>) -> Result<(), DeviceError> {
        self.program(space)?.run()?.give(columns)
    }

    fn begin_work(&mut self, id: SpaceId) -> Result<SimWork, DeviceError> {
        let space = self.program(id)?;
        if let Some(fault) = &space.fault {
            return Err(fault.clone());
        }
        Ok(SimWork(Kind::Shots(Box::new(Shots {
            space: id,
            run: space.run.take().ok_or(DeviceError::Busy)?,
            issued: space.issued >= space.image.code.len(),
            status: SpaceStatus { steps: 0, ..space.status },
            outcomes: Vec::new(),
            fault: None,
        }))))
    }

    fn finish(&mut self, work: SimWork) -> Result<SpaceStatus, DeviceError> {
        let result = match work.0 {
            Kind::Shots(work) => self.finish_shots(*work),
            Kind::Perform(work) => self.finish_perform(work),
            Kind::Link(work) => self.finish_link(*work),
            Kind::Save(work) => self.finish_save(*work),
            Kind::Restore(work) => self.finish_restore(*work),
            Kind::Close(mut work) => {
                work.step();
                self.put_state(work.number, work.state);
                Ok(SpaceStatus::default())
            }
        };
        if !self.closing.is_empty() {
            self.close_waiting();
        }
        result
    }

    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        match self.spaces.get(&space.0) {
            Some(Space::Interactive(space)) => {
                shot == 0 && space.memory.events.get(event as usize).copied().unwrap_or(false)
            }
            Some(Space::Program(space)) => {
                let byte = space.packed(shot, 1).get(event as usize / 8);
                byte.is_some_and(|b| b >> (event % 8) & 1 == 1)
            }
            None => false,
        }
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        if let Some(Space::Program(space)) = self.spaces.get(&space.0) {
            out.extend_from_slice(space.packed(first, count as u64));
        }
    }

    fn begin_close(&mut self, id: SpaceId) -> Option<SimWork> {
        let busy = match self.spaces.get(&id.0)? {
            Space::Program(space) => space.run.is_none(),
            Space::Interactive(space) => self.states.get(&space.state).is_some_and(Option::is_none),
        };
        if busy {
            self.closing.insert(id.0);
            return None;
        }
        self.snapshots.retain(|_, s| s.space != id.0);
        let Some(Space::Interactive(closed)) = self.spaces.remove(&id.0) else { return None };
        let slot = self.states.get_mut(&closed.state)?;
        let Some(state) = slot.take_if(|state| state.spaces().len() > 1) else {
            self.states.remove(&closed.state);
            return None;
        };
        Some(SimWork(Kind::Close(Box::new(Close {
            space: id,
            number: closed.state,
            state,
            qubits: closed.memory.registers.into_values().collect(),
            draw: Draw { seed: closed.seed, site: DrawSite { at: closed.at, draw: 0 } },
            done: false,
        }))))
    }

    #[inline]
    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = SimWork>> {
        Some(self)
    }

    fn snapshots(&mut self) -> Option<&mut dyn Snapshots<Work = SimWork>> {
        if self.spec.features.snapshot { Some(self) } else { None }
    }
}

impl SimDevice {
    fn finish_shots(&mut self, work: Shots) -> Result<SpaceStatus, DeviceError> {
        let Shots { space, run, status, outcomes, fault, .. } = work;
        let Some(Space::Program(space)) = self.spaces.get_mut(&space.0) else { return Err(no_space()) };
        space.run = Some(run);
        space.status = status;
        if space.outcomes.is_empty() {
            space.outcomes = outcomes;
        } else {
            space.outcomes.extend_from_slice(&outcomes);
        }
        match fault {
            None => Ok(status),
            Some(fault) => {
                space.fault = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// Closes spaces that work was out for, those of them that it is back for.
    fn close_waiting(&mut self) {
        for id in std::mem::take(&mut self.closing) {
            if let Some(mut work) = self.begin_close(SpaceId(id)) {
                work.step(u64::MAX);
                // Closing is not refused.
                let _ = self.finish(work);
            }
        }
    }
}

fn outcome_bytes(spec: &SpaceSpec) -> u64 {
    spec.shots.saturating_mul(stride(&spec.image) as u64)
}

/// Refuses a space that the machine cannot have.
fn check_spec(spec: &SpaceSpec) -> Result<(), DeviceError> {
    let bytes = outcome_bytes(spec);
    if bytes > MAX_OUTCOME_BYTES {
        return Err(DeviceError::Refused(format!(
            "{} shots of {} events need {bytes} bytes of outcomes, the limit is {MAX_OUTCOME_BYTES}; run fewer shots at a time",
            spec.shots, spec.image.events
        )));
    }
    if spec.errors.level != Level::Ideal {
        return Err(DeviceError::Refused("the simulator knows logical qubits, and no errors of their patches".into()));
    }
    check_noise(&spec.image, &spec.noise).map_err(DeviceError::Refused)
}
