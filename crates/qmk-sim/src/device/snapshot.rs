//! Saved states.

use super::machine::{SimDevice, unused};
use super::refusal::no_space;
use super::space::{Memory, Saved, Snapshot, Space};
use super::work::{Held, Kind, Restore, Save, SimWork};
use qmk_hal::{DeviceError, SnapshotId, Snapshots, SpaceId, SpaceStatus};
use std::sync::Arc;

impl Snapshots for SimDevice {
    type Work = SimWork;

    fn begin_snapshot(&mut self, space: SpaceId) -> Result<(SnapshotId, SimWork), DeviceError> {
        let (mut at, mut memory, mut saved) = (0, Memory::default(), None);
        if let Some(Space::Interactive(this)) = self.spaces.get(&space.0) {
            (at, memory) = (this.at, this.memory.clone());
        } else {
            let this = self.program(space)?;
            this.run()?;
            // A program is saved before its first shot, so there are none to speak of.
            let mut outcomes = Vec::new();
            if outcomes.try_reserve_exact(this.outcomes.len()).is_err() {
                return Err(DeviceError::Refused("there is not enough memory for the outcomes".into()));
            }
            outcomes.extend_from_slice(&this.outcomes);
            saved = Some(Ok(Saved::Program { issued: this.issued, shots: this.status.shots_done, outcomes }));
        }
        let held = self.hold(space)?;
        let id = unused(&self.snapshots, &mut self.next_snapshot);
        self.snapshots.insert(id, Snapshot { space: space.0, saved: None });
        let work = Save { space, id, held, at, memory, saved };
        Ok((SnapshotId(id), SimWork(Kind::Save(Box::new(work)))))
    }

    fn begin_restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<SimWork, DeviceError> {
        let found = self.snapshots.get(&snapshot.0).filter(|s| s.space == space.0);
        let Some(from) = found.and_then(|s| s.saved.clone()) else {
            return Err(DeviceError::Refused("the space has no such snapshot".into()));
        };
        let at = match self.spaces.get(&space.0) {
            Some(Space::Interactive(this)) => this.at,
            _ => 0,
        };
        let held = self.hold(space)?;
        Ok(SimWork(Kind::Restore(Box::new(Restore { space, from, held, at, copy: None }))))
    }

    fn forget(&mut self, snapshot: SnapshotId) {
        self.snapshots.remove(&snapshot.0);
    }
}

impl SimDevice {
    /// Takes the run, or the state, of a space that shares it with no other.
    fn hold(&mut self, id: SpaceId) -> Result<Held, DeviceError> {
        match self.spaces.get_mut(&id.0).ok_or_else(no_space)? {
            Space::Program(space) => space.run.take().map(Held::Run).ok_or(DeviceError::Busy),
            Space::Interactive(space) => {
                let slot = self.states.get_mut(&space.state).ok_or_else(no_space)?;
                let state = slot.take_if(|state| state.spaces().len() == 1);
                match slot {
                    Some(_) => Err(DeviceError::Refused("the space shares its state with another".into())),
                    None => state.map(Held::State).ok_or(DeviceError::Busy),
                }
            }
        }
    }

    fn put_back(&mut self, id: SpaceId, held: Held) -> SpaceStatus {
        match (self.spaces.get_mut(&id.0), held) {
            (Some(Space::Program(space)), Held::Run(run)) => {
                space.run = Some(run);
                SpaceStatus { steps: 0, ..space.status }
            }
            (Some(Space::Interactive(space)), Held::State(state)) => {
                let (number, status) = (space.state, space.status());
                self.put_state(number, state);
                status
            }
            _ => SpaceStatus::default(),
        }
    }

    pub(super) fn finish_save(&mut self, mut work: Save) -> Result<SpaceStatus, DeviceError> {
        work.step();
        let Save { space, id, held, saved, .. } = work;
        let status = self.put_back(space, held);
        match saved {
            Some(Ok(saved)) => {
                // It may have been forgotten meanwhile.
                if let Some(snapshot) = self.snapshots.get_mut(&id) {
                    snapshot.saved = Some(Arc::new(saved));
                }
                Ok(status)
            }
            Some(Err(refused)) => {
                self.snapshots.remove(&id);
                Err(refused)
            }
            None => Ok(status),
        }
    }

    pub(super) fn finish_restore(&mut self, mut work: Restore) -> Result<SpaceStatus, DeviceError> {
        work.step();
        let Restore { space: id, from, held, copy, .. } = work;
        let (held, refused): (Held, Option<DeviceError>) = match (copy, held) {
            (Some(Ok(copy)), Held::State(_)) => (Held::State(copy), None),
            (Some(Err(refused)), held) => (held, Some(refused)),
            (_, held) => (held, None),
        };
        let status = self.put_back(id, held);
        if let Some(refused) = refused {
            return Err(refused);
        }
        match (self.spaces.get_mut(&id.0), &*from) {
            (Some(Space::Interactive(space)), Saved::Interactive(_, memory)) => space.memory.clone_from(memory),
            (Some(Space::Program(space)), Saved::Program { issued, shots, outcomes }) => {
                space.rewind()?;
                space.issued = *issued;
                space.outcomes.extend_from_slice(outcomes);
                space.status.shots_done = *shots;
            }
            _ => {}
        }
        Ok(status)
    }
}
