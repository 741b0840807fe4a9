//! Tenants with qubits on the simulated machine.

use qmk_kernel::abi::image::{Clifford1, Clifford2, Op, Pauli};
use qmk_kernel::abi::syscall::{ChannelInfo, Quota};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::LinkSpec;
use qmk_kernel::{DomainId, Kernel};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Rng;

#[derive(Clone, Copy, Debug)]
pub struct Tenant {
    pub id: DomainId,
    /// The root's capability for the tenant's domain.
    pub control: Handle,
    pub machine: Handle,
}

#[derive(Debug)]
pub struct Lab {
    pub kernel: Kernel<SimDevice>,
    pub root: DomainId,
    pub machine: Handle,
}

impl Lab {
    /// A machine with raw pairs of these weights, so many of them in an epoch, and its tenants.
    pub fn new<const N: usize>(raw: [f64; 4], pairs_per_epoch: u32, seed: u64, quota: Quota) -> (Lab, [Tenant; N]) {
        let link = LinkSpec { raw, pairs_per_epoch };
        let config = SimConfig { logical_qubits: 32, magic_per_epoch: 4096, link, threads: 1, ..SimConfig::default() };
        let (kernel, root, machine) = Kernel::boot(SimDevice::new(config), seed, Quota::UNLIMITED);
        let mut lab = Lab { kernel, root, machine };
        // Magic states come to be in stock.
        lab.kernel.advance();
        let tenants = [(); N].map(|()| {
            let control = lab.handle(root, Syscall::CreateDomain { machine, quota });
            let rights = Rights::USE | (Rights::CLASSES - Rights::ADMIN);
            let into = Some(control);
            let own = lab.handle(root, Syscall::Derive { source: machine, rights, badge: 0, into, budget: None });
            Tenant { id: lab.kernel.domain_of(root, control).expect("a domain"), control, machine: own }
        });
        (lab, tenants)
    }

    pub fn call(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        self.kernel.syscall(d, call)
    }

    pub fn handle(&mut self, d: DomainId, call: Syscall) -> Handle {
        match self.call(d, call.clone()) {
            Ok(Reply::Handle(handle)) => handle,
            reply => panic!("{call:?}: {reply:?}"),
        }
    }

    pub fn take(&mut self, t: Tenant) -> Handle {
        self.handle(t.id, Syscall::TakeQubit { machine: t.machine })
    }

    pub fn apply(&mut self, t: Tenant, op: Op, qubits: &[Handle]) -> Vec<bool> {
        let call = Syscall::Apply { machine: t.machine, op, qubits: qubits.to_vec() };
        match self.call(t.id, call) {
            Ok(Reply::Applied { outcomes, .. }) => outcomes,
            reply => panic!("{op:?}: {reply:?}"),
        }
    }

    pub fn measure(&mut self, t: Tenant, pauli: Pauli, qubit: Handle) -> bool {
        self.apply(t, Op::Measure(pauli, 0, 0), &[qubit])[0]
    }

    /// The root lets one tenant offer channels to another.
    pub fn introduce(&mut self, t: Tenant, to: Tenant) -> Handle {
        let (source, into) = (to.control, Some(t.control));
        self.handle(self.root, Syscall::Derive { source, rights: Rights::OFFER, badge: 0, into, budget: None })
    }

    pub fn offer(&mut self, t: Tenant, qubit: Handle, to: Handle, fidelity: f64) -> [Handle; 2] {
        match self.call(t.id, Syscall::Offer { machine: t.machine, qubit, to, fidelity }) {
            Ok(Reply::Offered { endpoint, invitation }) => [endpoint, invitation],
            reply => panic!("{reply:?}"),
        }
    }

    pub fn accept(&mut self, t: Tenant, endpoint: Handle, qubit: Handle) -> ChannelInfo {
        match self.call(t.id, Syscall::Accept { machine: t.machine, endpoint, qubit }) {
            Ok(Reply::Channel(info)) => info,
            reply => panic!("{reply:?}"),
        }
    }

    /// A channel whose pair is ready: the endpoints, and what the kernel says of it.
    pub fn link(&mut self, a: (Tenant, Handle), b: (Tenant, Handle), to: Handle, f: f64) -> ([Handle; 2], ChannelInfo) {
        let ends = self.offer(a.0, a.1, to, f);
        let info = self.accept(b.0, ends[1], b.1);
        self.wait(info.ready_at);
        (ends, info)
    }

    pub fn wait(&mut self, epoch: u64) {
        while self.kernel.epoch() < epoch {
            self.kernel.advance();
        }
    }

    pub fn teleport(&mut self, t: Tenant, endpoint: Handle, qubit: Handle) {
        let reply = self.call(t.id, Syscall::Teleport { machine: t.machine, endpoint, qubit });
        assert!(matches!(reply, Ok(Reply::Applied { .. })), "{reply:?}");
    }
}

/// A unitary on register 0, and its inverse.
pub fn unitary(dice: &mut Rng) -> [Op; 2] {
    let angle = dice.unit() * 6.0 - 3.0;
    let both = |op, inverse| [op, inverse];
    match dice.next() % 6 {
        0 => both(Op::Clifford1(Clifford1::H, 0), Op::Clifford1(Clifford1::H, 0)),
        1 => both(Op::Clifford1(Clifford1::S, 0), Op::Clifford1(Clifford1::Sdg, 0)),
        2 => both(Op::Clifford1(Clifford1::Sx, 0), Op::Clifford1(Clifford1::Sxdg, 0)),
        3 => both(Op::T(0), Op::Tdg(0)),
        4 => both(Op::Pauli(Pauli::Y, 0), Op::Pauli(Pauli::Y, 0)),
        _ => {
            let axis = [Pauli::X, Pauli::Y, Pauli::Z][(dice.next() % 3) as usize];
            both(Op::Rotate(axis, 0, angle), Op::Rotate(axis, 0, -angle))
        }
    }
}

pub const CNOT: Op = Op::Clifford2(Clifford2::Cnot, 0, 1);

/// Pearson's statistic of observed counts and their probabilities.
pub fn chi_square(counts: &[u64], p: &[f64]) -> f64 {
    let n = counts.iter().sum::<u64>() as f64;
    counts.iter().zip(p).map(|(&c, p)| (c as f64 - n * p).powi(2) / (n * p)).sum()
}
