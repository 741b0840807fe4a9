//! A job, and the replies about it.

use super::ticket::Ticket;
use crate::program::Program;
use qmk_abi::Handle;
use qmk_abi::rpc::*;
use qmk_abi::syscall::StrandStatus;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Bytes that a key of a map takes beside its text, estimated.
pub(crate) const KEY_BYTES: usize = 48;

pub(crate) struct Job {
    /// `None` once the job has ended.
    pub(crate) program: Option<Arc<Program>>,
    pub(crate) policy: Policy,
    pub(crate) image: Handle,
    pub(crate) strand: Handle,
    pub(crate) state: JobState,
    pub(crate) status: StrandStatus,
    pub(crate) estimated: u64,
    /// Magic states of a shot.
    pub(crate) magic: u64,
    /// Bytes that its program takes, estimated.
    pub(crate) bytes: usize,
    pub(crate) started: Instant,
    /// Duration, once it has ended.
    pub(crate) took: Option<Duration>,
    pub(crate) outcomes: Outcomes,
    pub(crate) result: Option<Arc<JobResult>>,
    pub(crate) error: Option<String>,
    pub(crate) recorded: Arc<AtomicBool>,
    /// Whether it is the machine's own: no client sees it, and nothing is recorded.
    pub(crate) silent: bool,
    /// Text of the program, if it is short enough to be kept.
    pub(crate) source: Option<(String, Format)>,
}

/// Outcomes read so far.
#[derive(Default)]
pub(crate) struct Outcomes {
    pub(crate) shots: u64,
    pub(crate) counts: BTreeMap<Vec<u8>, u64>,
    pub(crate) last: Vec<u8>,
}

impl Outcomes {
    /// Adds packed outcomes; returns the number of shots.
    pub(crate) fn add(&mut self, bytes: &[u8], stride: usize) -> u64 {
        for shot in bytes.chunks_exact(stride) {
            match self.counts.get_mut(shot) {
                Some(n) => *n += 1,
                None => _ = self.counts.insert(shot.to_vec(), 1),
            }
        }
        let shots = (bytes.len() / stride) as u64;
        self.shots += shots;
        self.last = bytes[bytes.len().saturating_sub(stride)..].to_vec();
        shots
    }
}

impl Job {
    pub(crate) fn progress(&self) -> Progress {
        progress(&self.status, self.result.as_ref().map_or(self.estimated, |r| r.report.epochs.total))
    }

    pub(crate) fn ticket(&self, tenant: String, session: u64, job: u64) -> Ticket {
        let Policy { shots, priority, .. } = self.policy;
        let (started, recorded, silent) = (self.started, self.recorded.clone(), self.silent);
        Ticket { tenant, session, job, shots, priority, started, recorded, silent }
    }

    /// Its status.
    pub(crate) fn report(&self, id: &str) -> JobStatus {
        JobStatus {
            job_id: id.into(),
            state: self.state,
            progress: self.progress(),
            events: self.result.as_ref().map(|r| r.last_shot.clone()),
            telemetry: self.result.as_ref().map(|r| telemetry(&self.status, r)),
            error: self.error.clone(),
        }
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        self.result.as_ref().map(|r| telemetry(&self.status, r)).unwrap_or_default()
    }
}

/// The status of a completed job.
pub(crate) fn completed(status: &StrandStatus, result: &JobResult) -> JobStatus {
    JobStatus {
        job_id: result.job_id.clone(),
        state: JobState::Completed,
        progress: progress(status, result.report.epochs.total),
        events: None,
        telemetry: Some(telemetry(status, result)),
        error: None,
    }
}

fn progress(s: &StrandStatus, total_epochs: u64) -> Progress {
    Progress {
        current_epoch: s.epochs.saturating_mul(s.shots_done.max(1)),
        total_epochs,
        nodes_executed: match (s.prepared, s.shots_done) {
            // Errors of all shots are sampled before the first shot runs, and take nearly all of the time.
            (1.., _) => {
                let parts = 99 * s.prepared as u128 * s.shots as u128 + 1_000_000 * s.shots_done as u128;
                (parts * s.instructions as u128 / 100_000_000) as u64
            }
            // The first pass issues; the shots that follow repeat its schedule.
            (0, 0) => s.issued as u64,
            (0, n) => n.saturating_mul(s.instructions as u64),
        },
        nodes_total: s.shots.saturating_mul(s.instructions as u64),
    }
}

/// Why a job has no result.
pub(crate) fn no_result(id: &str, state: JobState, error: Option<&str>) -> RpcError {
    let why = error.unwrap_or("no reason given");
    match state {
        JobState::Failed => RpcError::new(ErrorCode::ResourceExhausted, format!("{id} failed: {why}")),
        JobState::Cancelled => RpcError::new(ErrorCode::AlreadyCompleted, format!("{id} was cancelled")),
        _ => RpcError::new(ErrorCode::Timeout, format!("{id} has not ended; wait for it first")),
    }
}

pub(crate) fn ended(id: &str) -> RpcError {
    RpcError::new(ErrorCode::AlreadyCompleted, format!("{id} has already ended"))
}

fn telemetry(status: &StrandStatus, r: &JobResult) -> Telemetry {
    Telemetry {
        total_epochs: r.report.epochs.total,
        total_gates: status.shots.saturating_mul(status.instructions as u64),
        physical_qubits_used: r.report.physical_qubits,
        decoder_cycles: r.report.epochs.total,
        execution_time_ms: r.report.wall_ms,
    }
}

/// The number in a job's name. Each job has one name.
pub(crate) fn job_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("job_")?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

/// Bytes that the parameters of a submission take, estimated.
pub(crate) fn bytes_of_params(policy: &Policy) -> usize {
    policy.params.iter().map(|(name, value)| name.len() + value.len() + 48).sum()
}
