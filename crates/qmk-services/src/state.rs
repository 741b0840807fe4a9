//! The state of a machine, behind one lock, and the parts that need no lock. Files with `impl State` hold one kind of
//! call each: tenants, sessions, jobs, identity, channels, watch.

use crate::audit_limit::AuditLimit;
use crate::build_queue::BuildQueue;
use crate::config::MachineConfig;
use crate::errors::kernel_error;
use crate::model::rate::Rate;
use crate::model::session::{DormantSessions, Session};
use crate::model::tenant::Tenant;
use crate::model::watched::Watched;
use crate::store::handle::Store;
use parking_lot::{Condvar, Mutex};
use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_abi::syscall::Quota;
use qmk_abi::{Handle, KernelError, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{Clock, DomainId, Kernel};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub(crate) struct State<D> {
    pub(crate) kernel: Kernel<D>,
    pub(crate) root: DomainId,
    pub(crate) machine: Handle,
    pub(crate) config: MachineConfig,
    pub(crate) store: Store,
    pub(crate) tenants: BTreeMap<String, Tenant>,
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) dormant: DormantSessions,
    /// Unfinished jobs and their sessions.
    pub(crate) unfinished: BTreeMap<u64, String>,
    /// Job whose outcomes are read first.
    pub(crate) first_read: u64,
    /// Counts uses of sessions, as a clock for eviction.
    pub(crate) uses: u64,
    pub(crate) next_job: u64,
    pub(crate) next_connection: u64,
    /// Number of calls that wait for an epoch.
    pub(crate) waiting: u32,
    pub(crate) stopping: bool,
    /// Whether a thread is advancing the kernel. Only one does.
    pub(crate) driving: bool,
    /// Whether strands lived, or had outcomes to read, after the last turn.
    pub(crate) busy: bool,
    /// Rate limits of users whose identity was refused.
    pub(crate) strangers: BTreeMap<u32, Rate>,
    /// Device steps per epoch.
    pub(crate) pace: u64,
    pub(crate) watched: Watched,
    /// When sessions are looked through for what is left behind.
    pub(crate) next_look: Instant,
}

pub(crate) struct Shared<D> {
    pub(crate) store: Store,
    pub(crate) build_queue: BuildQueue,
    pub(crate) audit_limit: AuditLimit,
    /// Why the machine has stopped, once it has.
    pub(crate) stopped: OnceLock<String>,
    /// Set when the machine is about to end: connections that close leave their sessions open.
    pub(crate) leaving: Arc<AtomicBool>,
    pub(crate) state: Mutex<State<D>>,
    /// Signalled when there is work for the kernel.
    pub(crate) work: Condvar,
    /// Signalled when a job changed.
    pub(crate) changed: Condvar,
    /// Signalled after each epoch that a call waits for.
    pub(crate) ticked: Condvar,
}

impl<D> Shared<D> {
    /// Stops the machine: nothing is asked of its kernel any more, every call answers with the reason, and what the
    /// journal has stays as it is. Jobs that have not ended run again after the next start.
    pub(crate) fn stop(&self, reason: &str) {
        self.stop_locked(&mut self.state.lock(), reason);
    }

    /// [`Shared::stop`], for a thread that has the lock.
    pub(crate) fn stop_locked(&self, state: &mut State<D>, reason: &str) {
        if self.stopped.set(reason.into()).is_ok() {
            tracing::error!(reason, "the machine has stopped");
        }
        state.stopping = true;
        self.leaving.store(true, Ordering::Relaxed);
        self.work.notify_all();
        self.changed.notify_all();
        self.ticked.notify_all();
    }

    /// # Errors
    /// The reason, once the machine has stopped.
    pub(crate) fn check_running(&self) -> Result<(), RpcError> {
        self.stopped.get().map_or(Ok(()), |reason| Err(RpcError::stopped(reason)))
    }
}

impl<D: Device> State<D> {
    pub(crate) fn boot(device: D, config: MachineConfig, store: Store) -> Self {
        let entropy = || getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(0));
        let seed = config.seed.unwrap_or_else(entropy);
        let (mut kernel, root, machine) = Kernel::boot(device, seed, Quota::UNLIMITED);
        if config.lockstep {
            kernel.set_clock(Clock::Lockstep);
        }
        // The stocks begin to fill in the first epoch. It is over before any job, so that jobs find the same each time.
        kernel.advance();
        State {
            kernel,
            root,
            machine,
            config,
            store,
            tenants: BTreeMap::new(),
            sessions: BTreeMap::new(),
            dormant: DormantSessions::default(),
            unfinished: BTreeMap::new(),
            first_read: 0,
            uses: 0,
            next_job: 1,
            next_connection: 1,
            waiting: 0,
            stopping: false,
            driving: false,
            busy: false,
            strangers: BTreeMap::new(),
            pace: Kernel::<D>::PACE,
            watched: Watched::default(),
            next_look: Instant::now(),
        }
    }
}

impl<D: Device> State<D> {
    pub(crate) fn call(&mut self, domain: DomainId, call: Syscall) -> Result<qmk_abi::Reply, RpcError> {
        self.kernel.syscall(domain, call).map_err(kernel_error)
    }

    pub(crate) fn handle(&mut self, domain: DomainId, call: Syscall) -> Result<Handle, RpcError> {
        match self.call(domain, call)? {
            qmk_abi::Reply::Handle(h) => Ok(h),
            other => Err(RpcError::new(ErrorCode::Internal, format!("unexpected reply {other:?}"))),
        }
    }

    /// Deletes a capability and all that derives from it.
    pub(crate) fn delete(&mut self, domain: DomainId, target: Handle) -> Result<(), RpcError> {
        let mut begun = false;
        loop {
            match self.kernel.syscall(domain, Syscall::Delete { target }) {
                Ok(qmk_abi::Reply::Deleted { more: true, .. }) => begun = true,
                Ok(_) => return Ok(()),
                // The capability itself is gone, and later epochs delete the rest of the domain.
                Err(KernelError::NoCapability) if begun => return Ok(()),
                Err(e) => return Err(kernel_error(e)),
            }
        }
    }
}
