//! Calls that need the program of a job: where its qubits are, and running it again.

use crate::connection::Connection;
use crate::errors::invalid;
use crate::model::job::job_number;
use crate::program::{Program, code_name};
use qmk_abi::rpc::interactive::*;
use qmk_abi::rpc::{ErrorCode, Format, JobRef, JobResult, JobState, JobSubmit, JobWait, Policy, RpcError};
use qmk_kernel::hal::Device;
use std::collections::BTreeSet;

/// How long a replay may take if the caller does not say, and at most.
const REPLAY: (u64, u64) = (30_000, 60_000);

impl<D: Device + Send + 'static> Connection<D> {
    /// The program of a job: that which runs, or built again from its source.
    fn program(&self, source: Option<(String, Format)>, policy: &Policy, p: &JobRef) -> Result<Program, RpcError> {
        let (granted, tenant) = {
            let state = self.shared.state.lock();
            let session = state.session(&p.session_id)?;
            (session.granted, session.tenant.clone())
        };
        let Some((text, format)) = source else {
            let message = format!("the program of {} is too long to be kept; submit it again with its seed", p.job_id);
            return Err(RpcError::new(ErrorCode::ResourceExhausted, message));
        };
        self.build_in_turn((&text, format), policy, granted, &tenant)
    }

    /// Why there is no program of a job that memory has not kept.
    fn forgotten(&self, missing: RpcError, p: &JobRef) -> RpcError {
        let message = format!("the program of {} is not kept any more; submit it again with its seed", p.job_id);
        let told = |_| RpcError::new(ErrorCode::ResourceExhausted, message);
        self.stored(missing, &p.session_id, &p.job_id).map_or_else(|e| e, told)
    }

    pub(super) fn mapping(&self, p: &JobRef) -> Result<Mapping, RpcError> {
        let (running, source, policy, state) = {
            let state = self.shared.state.lock();
            let job = match state.job(&p.session_id, &p.job_id) {
                Ok(job) => job,
                Err(e) => {
                    drop(state);
                    return Err(self.forgotten(e, p));
                }
            };
            (job.program.clone(), job.source.clone(), job.policy.clone(), job.state)
        };
        let program = match running {
            Some(program) => program,
            None => self.program(source, &policy, p)?.into(),
        };
        let patch = program.patch();
        let physical = self.shared.state.lock().kernel.device().physical_qubits(patch);
        Ok(Mapping {
            job_id: p.job_id.clone(),
            state,
            qubits: program.qubits.iter().cloned().zip(0..).collect(),
            region: "shared".into(),
            code: code_name(patch.code).into(),
            distance: patch.distance.into(),
            physical_per_logical: physical.map_or(0, u64::from),
            peak_logical_qubits: program.peak_qubits,
        })
    }

    pub(super) fn replay(&self, p: &Replay) -> Result<Replayed, RpcError> {
        let job = JobRef { session_id: p.session_id.clone(), job_id: p.job_id.clone() };
        let (first, source, policy) = {
            let state = self.shared.state.lock();
            let found = match state.job(&p.session_id, &p.job_id) {
                Ok(found) => found,
                Err(e) => {
                    drop(state);
                    return Err(self.forgotten(e, &job));
                }
            };
            let Some(result) = found.result.clone() else {
                let what = match found.state {
                    JobState::Failed | JobState::Cancelled => "did not complete, so there is nothing to compare with",
                    _ => "has not ended; wait for it first",
                };
                return invalid(format!("{} {what}", p.job_id));
            };
            (result, found.source.clone(), Policy { deadline_epochs: None, ..found.policy.clone() })
        };
        let program = self.program(source, &policy, &job)?;
        let (seed, shots) = (policy.seed, policy.shots);
        let timeout_ms = Some(p.timeout_ms.unwrap_or(REPLAY.0).min(REPLAY.1));
        // The program is built already, and its text not kept twice.
        let (session_id, source, format) = (p.session_id.clone(), String::new(), Format::Asm);
        let submit = JobSubmit { session_id: session_id.clone(), source, format, policy };
        let again = self.shared.state.lock().submit(&submit, program, true)?.0.job_id;
        self.shared.work.notify_all();
        let ended = self.wait(&JobWait { session_id: session_id.clone(), job_id: again.clone(), timeout_ms });
        let mut state = self.shared.state.lock();
        let second = state.job(&session_id, &again)?.result.clone();
        if ended.is_err() {
            _ = state.cancel(&session_id, &again);
        }
        if let Some(number) = job_number(&again) {
            state.forget(&session_id, number);
        }
        drop(state);
        ended.map_err(|mut e| {
            e.message = e.message.replace(&again, &format!("the replay of {}", p.job_id));
            e
        })?;
        let Some(second) = second else {
            let message = format!("the replay of {} failed, as the job itself did not", p.job_id);
            return Err(RpcError::new(ErrorCode::ResourceExhausted, message));
        };
        let differences = differences(&first, &second);
        let identical = differences.is_empty() && first.last_shot == second.last_shot;
        Ok(Replayed { job_id: p.job_id.clone(), seed, shots, identical, differences })
    }
}

/// Outcomes that did not occur as often in both, some of them.
fn differences(a: &JobResult, b: &JobResult) -> Vec<String> {
    let (a, b) = (&a.report.counts, &b.report.counts);
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().filter(|k| a.get(*k) != b.get(*k)).take(10).cloned().collect()
}
