//! Worlds to try calls in: a kernel on a watched device, tenants, random operations and programs.
#![allow(unreachable_pub, missing_docs, dead_code)]

pub mod watch;

use qmk_kernel::abi::image::{Image, Op};
use qmk_kernel::abi::syscall::{ChannelInfo, DomainUsage, Quota, Run, StrandState, StrandStatus};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_sim::SimConfig;
use std::rc::Rc;
use watch::{Probe, Watch};

/// A machine with more than enough of everything.
pub fn ample() -> SimConfig {
    SimConfig { logical_qubits: 64, magic_per_epoch: 100_000, threads: 1, ..SimConfig::default() }
}

pub struct World {
    pub kernel: Kernel<Watch>,
    pub probe: Rc<Probe>,
    pub root: DomainId,
    pub machine: Handle,
}

/// A domain with a machine capability of its own.
#[derive(Clone, Copy, Debug)]
pub struct Tenant {
    pub id: DomainId,
    pub machine: Handle,
    /// In the root's space.
    pub control: Handle,
}

impl World {
    pub fn new(config: SimConfig) -> Self {
        let (device, probe) = Watch::new(config);
        let (mut kernel, root, machine) = Kernel::boot(device, 7, Quota::UNLIMITED);
        kernel.set_clock(Clock::Lockstep);
        // Stocks are empty at boot.
        kernel.advance();
        World { kernel, probe, root, machine }
    }

    pub fn call(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        self.kernel.syscall(d, call)
    }

    pub fn handle(&mut self, d: DomainId, call: Syscall) -> Handle {
        match self.call(d, call.clone()) {
            Ok(Reply::Handle(handle)) => handle,
            other => panic!("{call:?} gives {other:?}"),
        }
    }

    pub fn done(&mut self, d: DomainId, call: Syscall) {
        assert_eq!(self.call(d, call.clone()), Ok(Reply::Done), "{call:?}");
    }

    pub fn derive(&mut self, source: Handle, rights: Rights, into: Option<Handle>) -> Handle {
        let root = self.root;
        self.derive_from(root, source, rights, into)
    }

    pub fn derive_from(&mut self, d: DomainId, source: Handle, rights: Rights, into: Option<Handle>) -> Handle {
        self.handle(d, Syscall::Derive { source, rights, badge: 0, into, budget: None })
    }

    pub fn tenant(&mut self, quota: Quota) -> Tenant {
        let (root, machine) = (self.root, self.machine);
        let control = self.handle(root, Syscall::CreateDomain { machine, quota });
        let id = self.kernel.domain_of(root, control).expect("it was just made");
        let machine = self.derive(machine, Rights::all(), Some(control));
        Tenant { id, machine, control }
    }

    pub fn take(&mut self, t: Tenant) -> Handle {
        self.handle(t.id, Syscall::TakeQubit { machine: t.machine })
    }

    pub fn apply(&mut self, t: Tenant, op: Op, qubits: &[Handle]) -> Vec<bool> {
        match self.call(t.id, Syscall::Apply { machine: t.machine, op, qubits: qubits.to_vec() }) {
            Ok(Reply::Applied { outcomes, .. }) => outcomes,
            other => panic!("{op:?} gives {other:?}"),
        }
    }

    pub fn rollback(&mut self, t: Tenant, strand: Option<Handle>) -> Result<u32, KernelError> {
        match self.call(t.id, Syscall::Rollback { machine: t.machine, strand })? {
            Reply::RolledBack(count) => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    /// Entangles a new qubit of one tenant with a new one of another; a channel between them is made and left open.
    pub fn entangle(&mut self, a: Tenant, b: Tenant) -> [Handle; 2] {
        let qubits = [self.take(a), self.take(b)];
        let to = self.derive(b.control, Rights::OFFER, Some(a.control));
        let offer = Syscall::Offer { machine: a.machine, qubit: qubits[0], to, fidelity: 0.9 };
        let Ok(Reply::Offered { invitation, .. }) = self.call(a.id, offer) else { panic!("no offer") };
        let accept = Syscall::Accept { machine: b.machine, endpoint: invitation, qubit: qubits[1] };
        let Ok(Reply::Channel(ChannelInfo { ready_at, .. })) = self.call(b.id, accept) else { panic!("not accepted") };
        while self.kernel.epoch() < ready_at {
            self.kernel.advance();
        }
        qubits
    }

    /// Amplitudes of the state that an interactive space is part of, spaces numbered in order of opening.
    pub fn amplitudes(&self, space: usize) -> Vec<[f64; 2]> {
        let device = self.kernel.device();
        let state = device.checked.inner.amplitudes(device.interactive()[space]).expect("a small interactive space");
        state.iter().map(|a| [a.re, a.im]).collect()
    }

    /// Numbers of open spaces and of saved states of the device.
    pub fn kept(&self) -> [usize; 2] {
        self.kernel.device().checked.kept()
    }

    pub fn admit(&mut self, t: Tenant, image: &Image) -> Handle {
        self.handle(t.id, Syscall::Admit { machine: t.machine, image: image.clone() })
    }

    pub fn spawn(&mut self, t: Tenant, image: Handle, run: Run) -> Handle {
        self.handle(t.id, Syscall::Spawn { machine: t.machine, image, run })
    }

    pub fn run(&mut self, t: Tenant, image: &Image, run: Run) -> Handle {
        let image = self.admit(t, image);
        self.spawn(t, image, run)
    }

    pub fn status(&mut self, t: Tenant, strand: Handle) -> StrandStatus {
        match self.call(t.id, Syscall::Status { strand }) {
            Ok(Reply::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    pub fn usage(&mut self, d: DomainId) -> DomainUsage {
        match self.call(d, Syscall::Usage) {
            Ok(Reply::Usage { used, .. }) => used,
            other => panic!("{other:?}"),
        }
    }

    pub fn outcomes(&mut self, t: Tenant, strand: Handle) -> Vec<u8> {
        match self.call(t.id, Syscall::Outcomes { strand, first: 0, count: u32::MAX }) {
            Ok(Reply::Outcomes(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    pub fn advance(&mut self, epochs: usize) {
        (0..epochs).for_each(|_| _ = self.kernel.advance());
    }

    /// Advances until a strand ends.
    pub fn finish(&mut self, t: Tenant, strand: Handle) -> StrandStatus {
        for _ in 0..20_000 {
            let status = self.status(t, strand);
            if matches!(status.state, StrandState::Done | StrandState::Faulted) {
                return status;
            }
            self.kernel.advance();
        }
        panic!("{:?} does not end", self.status(t, strand));
    }

    /// Advances until a strand has issued so many instructions.
    pub fn issue(&mut self, t: Tenant, strand: Handle, count: u32) {
        for _ in 0..20_000 {
            if self.status(t, strand).issued >= count {
                return;
            }
            self.kernel.advance();
        }
        panic!("{:?} does not get on", self.status(t, strand));
    }

    /// Deletes a capability, in as many steps as it takes.
    pub fn delete(&mut self, d: DomainId, target: Handle) {
        while let Ok(Reply::Deleted { more: true, .. }) = self.call(d, Syscall::Delete { target }) {}
    }
}

/// Largest difference between amplitudes of two states once their global phases agree.
pub fn distance(a: &[[f64; 2]], b: &[[f64; 2]]) -> f64 {
    assert_eq!(a.len(), b.len());
    let overlap = a
        .iter()
        .zip(b)
        .fold([0.0, 0.0], |s, (a, b)| [s[0] + a[0] * b[0] + a[1] * b[1], s[1] + a[0] * b[1] - a[1] * b[0]]);
    let norm = overlap[0].hypot(overlap[1]).max(1e-300);
    let phase = [overlap[0] / norm, overlap[1] / norm];
    let turned = |a: &[f64; 2]| [a[0] * phase[0] - a[1] * phase[1], a[0] * phase[1] + a[1] * phase[0]];
    a.iter().zip(b).map(|(a, b)| (turned(a)[0] - b[0]).hypot(turned(a)[1] - b[1])).fold(0.0, f64::max)
}
