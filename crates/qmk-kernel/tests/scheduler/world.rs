//! A kernel with tenants, and programs for them.

use crate::device::Metered;
use qmk_kernel::abi::image::{Image, Instr, Op, Pauli, Qubit};
use qmk_kernel::abi::syscall::{Quota, Run, StrandState, StrandStatus};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::{Device, Features, LinkSpec, MachineSpec, SpaceId};
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_testkit::NullDevice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A kernel, its root, and tenants with a machine capability each.
pub(crate) struct World {
    pub(crate) kernel: Kernel<Metered>,
    pub(crate) root: DomainId,
    pub(crate) machine: Handle,
    pub(crate) tenants: Vec<(DomainId, Handle)>,
    pub(crate) epoch: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) qubits: u32,
    pub(crate) routes: u32,
    pub(crate) magic: u32,
    pub(crate) buffer: u32,
    pub(crate) decoded: u32,
}

impl World {
    pub(crate) fn new(size: Size) -> World {
        let spec = MachineSpec {
            logical_qubits: size.qubits,
            routes_per_epoch: size.routes,
            magic_per_epoch: size.magic,
            magic_buffer: size.buffer,
            decoded_per_epoch: size.decoded,
            link: LinkSpec { raw: [1.0, 0.0, 0.0, 0.0], pairs_per_epoch: 1 },
            features: Features::default(),
        };
        let epoch = Arc::new(AtomicU64::new(0));
        let device = Metered {
            inner: NullDevice::with(spec),
            spaces: Vec::new(),
            issued: vec![0; 8],
            magic: vec![0; 8],
            worked: vec![0; 8],
            all_magic: 0,
            errors: vec![],
            routes: vec![],
            epoch: epoch.clone(),
        };
        let (mut kernel, root, machine) = Kernel::boot(device, 1, Quota::UNLIMITED);
        kernel.set_clock(Clock::Lockstep);
        World { kernel, root, machine, tenants: Vec::new(), epoch }
    }

    pub(crate) fn handle(&mut self, who: DomainId, call: Syscall) -> Handle {
        match self.kernel.syscall(who, call) {
            Ok(Reply::Handle(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn tenant(&mut self, quota: Quota) -> usize {
        let (root, machine) = (self.root, self.machine);
        let handle = self.handle(root, Syscall::CreateDomain { machine, quota });
        let domain = self.kernel.domain_of(root, handle).expect("a domain");
        let into = Some(handle);
        let derive = Syscall::Derive { source: machine, rights: Rights::all(), badge: 0, into, budget: None };
        let machine = self.handle(root, derive);
        self.tenants.push((domain, machine));
        self.tenants.len() - 1
    }

    pub(crate) fn admit(&mut self, tenant: usize, image: &Image) -> Handle {
        let (domain, machine) = self.tenants[tenant];
        self.handle(domain, Syscall::Admit { machine, image: image.clone() })
    }

    pub(crate) fn spawn(&mut self, tenant: usize, image: Handle, run: Run) -> Result<Handle, KernelError> {
        let (domain, machine) = self.tenants[tenant];
        let run = Run { seed: tenant as u64, ..run };
        match self.kernel.syscall(domain, Syscall::Spawn { machine, image, run })? {
            Reply::Handle(handle) => Ok(handle),
            other => panic!("{other:?}"),
        }
    }

    /// Spawns without a deadline.
    pub(crate) fn run(&mut self, tenant: usize, image: Handle, priority: i32) -> Handle {
        self.spawn(tenant, image, Run { priority, ..Run::default() }).expect("room for a strand")
    }

    pub(crate) fn status(&mut self, tenant: usize, strand: Handle) -> StrandStatus {
        match self.kernel.syscall(self.tenants[tenant].0, Syscall::Status { strand }) {
            Ok(Reply::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is_done(&mut self, tenant: usize, strand: Handle) -> bool {
        self.status(tenant, strand).state == StrandState::Done
    }

    /// Advances, and checks that no more is spent than the machine has.
    pub(crate) fn advance(&mut self, epochs: u64) {
        for _ in 0..epochs {
            let now = self.epoch.fetch_add(1, Relaxed) + 1;
            self.kernel.advance();
            let device = self.kernel.device();
            let in_use = |&&(_, _, until): &&(SpaceId, u32, u64)| until > now;
            assert!(device.all_magic <= now * device.spec().magic_per_epoch as u64, "magic states from nowhere");
            let taken: u32 = device.routes.iter().filter(in_use).map(|r| r.1).sum();
            assert!(taken <= device.spec().routes_per_epoch, "routes from nowhere: {taken}");
        }
    }
}

/// Short of nothing.
pub(crate) const AMPLE: Size = Size { qubits: 1000, routes: 1000, magic: 1000, buffer: 4000, decoded: 1000 };

pub(crate) fn image(qubits: u32, ops: impl IntoIterator<Item = Op>) -> Image {
    let all = (0..qubits).map(Op::Alloc).chain(ops).chain((0..qubits).map(Op::Free));
    let code: Vec<Instr> = all.map(|op| Instr { op, cond: None }).collect();
    let events = code.iter().flat_map(|i| i.op.writes()).map(|e| e + 1).max().unwrap_or(0);
    Image { qubits, events, code, terms: Vec::new() }
}

/// `n` times the same on one qubit of each of `width`.
pub(crate) fn chain(width: u32, n: u32, op: fn(Qubit) -> Op) -> Image {
    image(width, (0..n).flat_map(|_| (0..width).map(op)))
}

pub(crate) fn z(q: Qubit) -> Op {
    Op::Rotate(Pauli::Z, q, 0.1)
}

/// Keeps `tenant` at `n` strands that have not ended.
pub(crate) fn keep_up(w: &mut World, tenant: usize, image: Handle, n: usize, priority: i32, strands: &mut Vec<Handle>) {
    strands.retain(|&s| !w.is_done(tenant, s));
    while strands.len() < n {
        strands.push(w.run(tenant, image, priority));
    }
}
