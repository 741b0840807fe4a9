//! Qubits and checkpoints of a session.

use qmk_abi::Handle;
use std::collections::BTreeMap;

/// Qubits and checkpoints of a session. Their capabilities derive from the session's machine capability and end with
/// it.
#[derive(Default)]
pub(crate) struct Holdings {
    pub(crate) qubits: BTreeMap<u64, Handle>,
    pub(crate) checkpoints: BTreeMap<u64, Checkpoint>,
    /// Number of names given out. A name is not used twice.
    pub(crate) names: u64,
}

pub(crate) struct Checkpoint {
    pub(crate) handle: Handle,
    pub(crate) job: Option<u64>,
}

impl Holdings {
    /// Holdings whose first name comes after `names`.
    pub(crate) fn after(names: u64) -> Holdings {
        Holdings { names, ..Holdings::default() }
    }

    pub(crate) fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Qubits and checkpoints.
    pub(crate) fn count(&self) -> usize {
        self.qubits.len() + self.checkpoints.len()
    }

    /// Removes at most so many qubits and checkpoints.
    pub(crate) fn take(&mut self, most: usize) -> Vec<Handle> {
        let qubits = std::iter::from_fn(|| self.qubits.pop_last()).map(|(_, handle)| handle);
        let checkpoints = std::iter::from_fn(|| self.checkpoints.pop_last()).map(|(_, saved)| saved.handle);
        checkpoints.chain(qubits).take(most).collect()
    }

    /// Removes the checkpoints of a job, which end with it.
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
