//! What a session holds beside jobs.

use qmk_abi::Handle;
use std::collections::BTreeMap;

/// What a session holds beside jobs. All of it derives from the session's machine capability, and ends with it.
#[derive(Default)]
pub(crate) struct Holdings {
    pub(crate) qubits: BTreeMap<u64, Handle>,
    pub(crate) checkpoints: BTreeMap<u64, Checkpoint>,
    /// Names given out. A name is not used twice.
    pub(crate) names: u64,
}

pub(crate) struct Checkpoint {
    pub(crate) handle: Handle,
    pub(crate) job: Option<u64>,
}

impl Holdings {
    /// One that gives out names after these.
    pub(crate) fn after(names: u64) -> Holdings {
        Holdings { names, ..Holdings::default() }
    }

    pub(crate) fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Takes out the checkpoints of a job, which end with it.
    pub(crate) fn take_of_job(&mut self, job: u64) -> Vec<Handle> {
        let mut taken = Vec::new();
        self.checkpoints.retain(|_, c| {
            let ends = c.job == Some(job);
            if ends {
                taken.push(c.handle);
            }
            !ends
        });
        taken
    }
}
