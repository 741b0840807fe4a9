//! A machine: starting, connecting, stopping and closing it.

use crate::audit_limit::AuditLimit;
use crate::build_queue::BuildQueue;
use crate::config::MachineConfig;
use crate::connection::Connection;
use crate::driver::drive;
use crate::model::caller::{Caller, Peer};
use crate::notices::NOTICES;
use crate::policy::SitePolicy;
use crate::state::{Shared, State};
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::index::Retention;
use parking_lot::{Condvar, Mutex};
use qmk_abi::rpc::MachineStats;
use qmk_kernel::hal::Device;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// A machine: a kernel over a device, the services, and the thread that advances them.
pub struct Machine<D: Device + Send + 'static> {
    shared: Arc<Shared<D>>,
    driver: Option<JoinHandle<()>>,
}

impl<D: Device + Send + 'static> Machine<D> {
    /// Boots a kernel on a device and starts advancing it. Nothing outlives it.
    pub fn start(device: D, config: MachineConfig) -> Self {
        let mut state = State::boot(device, config, Store::default());
        state.next_job = 1;
        Self::run(state)
    }

    /// Like [`Machine::start`], with a directory where jobs, their results and sessions outlive the machine: what was
    /// answered before a sudden end is still there after it, and jobs that had not ended run again from the start.
    ///
    /// # Errors
    /// If the directory is another machine's, or its files are damaged or cannot be written.
    pub fn open(device: D, config: MachineConfig, dir: &Path) -> Result<Self, StoreError> {
        let retention = Retention { jobs: config.stored_jobs, bytes: config.stored_bytes };
        let mut state = State::boot(device, config, Store::open(dir, retention)?);
        state.recover()?;
        Ok(Self::run(state))
    }

    /// Whether jobs and sessions outlive it.
    pub fn keeps(&self) -> bool {
        self.shared.store.keeps()
    }

    /// A flag to be set when the machine is about to end: connections that close then leave their sessions open.
    pub fn leaving(&self) -> Arc<AtomicBool> {
        self.shared.leaving.clone()
    }

    /// Stops the machine, as a broken kernel does: every later call answers `INTERNAL_ERROR` with the reason, the flag
    /// of [`Machine::leaving`] is set, and the journal stays as it is.
    pub fn stop(&self, reason: &str) {
        self.shared.stop(reason);
    }

    /// Why the machine has stopped, if it has.
    pub fn stop_reason(&self) -> Option<&str> {
        self.shared.stopped.get().map(String::as_str)
    }

    /// Ends the machine and closes its journal under a signed head.
    ///
    /// # Errors
    /// If a write fails. Entries recorded before are not lost.
    pub fn close(&self) -> Result<(), StoreError> {
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.shared.state.lock().stopping = true;
        self.shared.work.notify_all();
        self.shared.audit_limit.flush(&self.shared.store);
        self.shared.store.close()
    }

    /// Starts the thread of the kernel.
    fn run(state: State<D>) -> Self {
        let (store, leaving) = (state.store.clone(), Arc::default());
        let (work, changed, ticked) = (Condvar::new(), Condvar::new(), Condvar::new());
        let (build_queue, audit_limit, state) = (BuildQueue::default(), AuditLimit::default(), Mutex::new(state));
        let stopped = OnceLock::new();
        let shared = Shared { store, build_queue, audit_limit, stopped, leaving, state, work, changed, ticked };
        let shared = Arc::new(shared);
        let driver = shared.clone();
        let driver = std::thread::Builder::new().name("kernel".into()).spawn(move || drive(&driver)).ok();
        Machine { shared, driver }
    }

    /// A new endpoint within this process, which acts as the owner of the machine.
    pub fn connect(&self) -> Connection<D> {
        self.endpoint(None)
    }

    /// A new endpoint for another process.
    pub fn connect_as(&self, peer: Peer) -> Connection<D> {
        self.endpoint(Some(peer))
    }

    fn endpoint(&self, peer: Option<Peer>) -> Connection<D> {
        let mut state = self.shared.state.lock();
        state.next_connection += 1;
        let caller = Caller { connection: state.next_connection, peer, shown: None };
        Connection {
            shared: self.shared.clone(),
            caller: Mutex::new(caller),
            settles: false,
            unsettled: AtomicBool::new(false),
            authenticated: AtomicBool::new(false),
            built: Mutex::new(None),
        }
    }

    /// Figures of the whole machine.
    pub fn stats(&self) -> MachineStats {
        self.shared.state.lock().machine_stats()
    }

    /// Takes on a new policy. Sessions that it would not give are closed. The limits that the kernel keeps, and
    /// weights, hold for a tenant once it has no session open.
    pub fn set_policy(&self, policy: SitePolicy) {
        self.shared.state.lock().set_policy(policy);
        self.shared.changed.notify_all();
    }
}

impl<D: Device + Send + 'static> Drop for Machine<D> {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.work.notify_all();
        if let Some(driver) = self.driver.take() {
            // A panic of the driver has been reported by then.
            let _ = driver.join();
        }
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.shared.audit_limit.flush(&self.shared.store);
        if let Err(e) = self.shared.store.close() {
            tracing::warn!(target: NOTICES, "{e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, MachineConfig};
    use crate::policy::SitePolicy;
    use qmk_abi::rpc::{Endpoint, ErrorCode, Request, SessionCreate, SessionRef};
    use qmk_abi::syscall::Quota;
    use qmk_sim::SimDevice;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    const STORY: &str = "domain 3 holds 2 qubits and its table has 1";

    fn machine() -> Machine<SimDevice> {
        Machine::start(SimDevice::default(), MachineConfig::default())
    }

    #[test]
    fn a_call_that_finds_the_kernel_broken_stops_the_machine_with_its_story() {
        let machine = machine();
        let connection = machine.connect();
        machine.shared.state.lock().kernel.stop_as_broken(STORY);
        // The first call is answered by the kernel, and the second by the machine.
        let open = || connection.call(Request::SessionCreate(SessionCreate::default())).unwrap_err();
        for refused in [open(), open()] {
            assert_eq!((refused.code, refused.stop_reason()), (ErrorCode::Internal, Some(STORY)), "{refused}");
            assert_eq!(machine.stop_reason(), Some(STORY));
        }
    }

    #[test]
    fn the_thread_of_the_kernel_stops_a_machine_whose_kernel_is_broken() {
        let machine = machine();
        let connection = machine.connect();
        let mut state = machine.shared.state.lock();
        state.kernel.stop_as_broken(STORY);
        state.busy = true;
        machine.shared.work.notify_all();
        machine.shared.changed.wait_for(&mut state, Duration::from_secs(60));
        drop(state);
        assert_eq!(machine.stop_reason(), Some(STORY));
        assert!(machine.leaving().load(Ordering::Relaxed), "a server ends by this flag");
        let query = Request::ResourceQuery(SessionRef { session_id: String::new() });
        assert_eq!(connection.call(query).unwrap_err().stop_reason(), Some(STORY));
    }

    #[test]
    fn the_kernel_gets_the_limits_of_the_policy() {
        let text = "[tenants.a]\ncapabilities = []\nweight = 3\n[tenants.a.quota]\nmax_logical_qubits = 5\n\
                    max_physical_qubits = 6\nmax_channels = 7\nmax_jobs = 8\nmax_active_qubits = 9\n\
                    magic_states_per_window = 10\nepochs_per_window = 11\nwindow_epochs = 12\n\
                    [tenants.b]\ncapabilities = []\n[tenants.b.quota]\nmax_jobs = 5000\nmax_active_qubits = 40\n";
        let policy = SitePolicy::parse(text, "policy.toml".as_ref()).unwrap();
        let config = MachineConfig { policy: Some(Arc::new(policy)), ..MachineConfig::default() };
        let machine = Machine::start(SimDevice::default(), config);
        let quota = |tenant| machine.shared.state.lock().quota(tenant);
        let (a, b) = (quota("a"), quota("b"));
        let numbers = [a.qubits, a.channels, a.strands, a.active, a.weight];
        assert_eq!(numbers, [5, 7, 8, 9, 3]);
        assert_eq!([a.physical_qubits, a.magic, a.epochs, a.window], [6, 10, 11, 12]);
        // A policy does not go beyond the machine.
        assert_eq!([b.strands, b.active, b.weight], [1000, Quota::UNLIMITED.active, 1]);
    }
}
