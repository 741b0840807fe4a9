//! Which call comes next.

use crate::device::Counted;
use crate::sequence::Fuzz;
use qmk_kernel::abi::syscall::{Budget, ObjectKind, Run};
use qmk_kernel::abi::{Handle, Syscall};
use qmk_kernel::{DomainId, Kernel};

impl Fuzz<'_> {
    /// A handle of a domain to an object of this kind; now and then foreign, stale, of another kind or of nothing.
    pub(crate) fn handle(&mut self, domain: DomainId, kind: ObjectKind) -> Handle {
        let of = |k: &Kernel<Counted>, d, all: bool| -> Vec<Handle> {
            k.capabilities(d).into_iter().filter(|c| all || c.1 == kind).map(|c| c.0).collect()
        };
        let from = match self.bytes.below(32) {
            0 => return self.bytes.handle(),
            1 => self.seen.clone(),
            2 => of(&self.kernel, self.bytes.pick(&self.domains), false),
            3 => of(&self.kernel, domain, true),
            _ => of(&self.kernel, domain, false),
        };
        if from.is_empty() { self.bytes.handle() } else { self.bytes.pick(&from) }
    }

    pub(crate) fn maybe(&mut self, domain: DomainId, kind: ObjectKind) -> Option<Handle> {
        (self.bytes.below(2) == 0).then(|| self.handle(domain, kind))
    }

    pub(crate) fn shots(&mut self) -> u64 {
        // In lockstep an epoch runs all shots.
        let shots = self.bytes.number(20);
        if self.lockstep { shots % 64 } else { shots }
    }

    pub(crate) fn run(&mut self, d: DomainId) -> Run {
        use ObjectKind::{Context, Region};
        Run {
            shots: self.shots(),
            seed: self.bytes.u64(),
            priority: self.bytes.pick(&[0, 0, 1, -1, i32::MIN, i32::MAX]),
            deadline: match self.bytes.below(4) {
                0 => Some(self.bytes.number(2000)),
                1 => Some(self.bytes.pick(&[0, 1, 1 << 16, 1 << 17, u64::MAX])),
                _ => None,
            },
            context: if self.bytes.below(3) == 0 { Some(self.handle(d, Context)) } else { None },
            region: if self.bytes.below(3) == 0 { Some(self.handle(d, Region)) } else { None },
            patch: self.bytes.patch(),
            noise: Default::default(),
        }
    }

    /// A call that `d` might make.
    pub(crate) fn call(&mut self, d: DomainId) -> Syscall {
        use ObjectKind::*;
        let any = self.bytes.pick(&[Machine, Domain, Image, Strand, Qubit, Context, Region, Endpoint, Checkpoint]);
        let choice = self.bytes.below(64);
        let choice =
            if self.gentle && matches!(choice, 0 | 1 | 10..=13) && self.bytes.below(8) > 0 { 60 } else { choice };
        match choice {
            0..=3 => self.creation(d, choice),
            4..=9 => {
                let kind = if self.bytes.below(2) == 0 { Machine } else { any };
                Syscall::Derive {
                    source: self.handle(d, kind),
                    rights: self.bytes.rights(),
                    badge: self.bytes.u64() % 3,
                    into: self.maybe(d, Domain),
                    budget: (self.bytes.below(3) == 0).then(|| Budget {
                        strands: self.bytes.small(4),
                        qubits: self.bytes.small(8),
                        magic: self.bytes.number(200),
                    }),
                }
            }
            10 => Syscall::Revoke { target: self.handle(d, any) },
            11..=13 => Syscall::Delete { target: self.handle(d, any) },
            14 => Syscall::Inspect { target: self.handle(d, any) },
            15..=18 => Syscall::Admit { machine: self.handle(d, Machine), image: self.bytes.image() },
            19..=26 => {
                Syscall::Spawn { machine: self.handle(d, Machine), image: self.handle(d, Image), run: self.run(d) }
            }
            27 => Syscall::Status { strand: self.handle(d, Strand) },
            28 | 29 => Syscall::Outcomes {
                strand: self.handle(d, Strand),
                first: self.bytes.number(3),
                count: self.bytes.small(10),
            },
            30 | 31 => Syscall::Pause { strand: self.handle(d, Strand), paused: self.bytes.below(2) == 0 },
            32 | 33 => Syscall::Migrate { strand: self.handle(d, Strand), region: self.maybe(d, Region) },
            34 | 35 => Syscall::Rollback { machine: self.handle(d, Machine), strand: self.maybe(d, Strand) },
            36..=38 => Syscall::Checkpoint { machine: self.handle(d, Machine), strand: self.maybe(d, Strand) },
            39 => Syscall::CheckpointStatus { checkpoint: self.handle(d, Checkpoint) },
            40 | 41 => Syscall::Restore { checkpoint: self.handle(d, Checkpoint) },
            42..=45 => Syscall::TakeQubit { machine: self.handle(d, Machine) },
            46 => Syscall::FreeQubit { qubit: self.handle(d, Qubit), uncompute: self.maybe(d, Machine) },
            47..=52 => Syscall::Apply {
                machine: self.handle(d, Machine),
                op: self.bytes.op(3),
                qubits: (0..self.bytes.pick(&[3, 3, 3, 0, 2, 9])).map(|_| self.handle(d, Qubit)).collect(),
            },
            53..=62 => self.channel_call(d, choice),
            _ => Syscall::Usage,
        }
    }

    /// A call that needs `ADMIN`.
    pub(crate) fn creation(&mut self, d: DomainId, choice: usize) -> Syscall {
        use ObjectKind::Machine;
        match choice {
            0 | 1 => Syscall::CreateDomain { machine: self.handle(d, Machine), quota: self.bytes.quota() },
            2 => Syscall::CreateContext {
                machine: self.handle(d, Machine),
                weight: self.bytes.small(4),
                epochs: self.bytes.number(50),
                window: self.bytes.pick(&[0, 1, 10, u64::MAX]),
            },
            _ => Syscall::CreateRegion {
                machine: self.handle(d, Machine),
                qubits: self.bytes.small(6),
                routes: self.bytes.small(2),
                magic: self.bytes.small(1),
            },
        }
    }

    pub(crate) fn channel_call(&mut self, d: DomainId, choice: usize) -> Syscall {
        use ObjectKind::{Domain, Endpoint, Machine, Qubit};
        match choice {
            53..=55 => Syscall::Offer {
                machine: self.handle(d, Machine),
                qubit: self.handle(d, Qubit),
                to: self.handle(d, Domain),
                fidelity: self.bytes.float(),
            },
            56..=58 => Syscall::Accept {
                machine: self.handle(d, Machine),
                endpoint: self.handle(d, Endpoint),
                qubit: self.handle(d, Qubit),
            },
            59 => Syscall::Teleport {
                machine: self.handle(d, Machine),
                endpoint: self.handle(d, Endpoint),
                qubit: self.handle(d, Qubit),
            },
            60 => Syscall::SwapEntanglement {
                machine: self.handle(d, Machine),
                endpoints: [self.handle(d, Endpoint), self.handle(d, Endpoint)],
            },
            61 => Syscall::CloseChannel { endpoint: self.handle(d, Endpoint) },
            _ => Syscall::ChannelStatus { endpoint: self.handle(d, Endpoint) },
        }
    }

    /// A call that bytes happen to be, if they are one.
    pub(crate) fn raw(&mut self, d: DomainId) -> Option<Syscall> {
        let mut bytes = match self.bytes.below(3) {
            // A call of the caller's own with a few bytes changed.
            0 => postcard::to_allocvec(&self.call(d)).ok()?,
            _ => (0..64).map(|_| self.bytes.byte() >> self.bytes.pick(&[0, 1, 1, 4])).collect(),
        };
        for _ in 0..self.bytes.below(4) {
            let at = self.bytes.below(bytes.len());
            bytes[at] = self.bytes.byte();
        }
        // Two thirds of all bytes are numbers of no call.
        bytes[0] = if self.bytes.below(8) == 0 { bytes[0] } else { bytes[0] % 31 };
        let (mut call, _) = postcard::take_from_bytes::<Syscall>(&bytes).ok()?;
        // In lockstep an epoch runs all shots.
        if let Syscall::Spawn { run, .. } = &mut call
            && self.lockstep
        {
            run.shots %= 64;
        }
        // More registers than a state vector has room for would be the machine's matter.
        if let Syscall::CreateDomain { quota, .. } = &mut call {
            quota.instructions = quota.instructions.min(1 << 16);
        }
        Some(call)
    }
}
