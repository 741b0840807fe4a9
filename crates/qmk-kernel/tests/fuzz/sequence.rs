//! A sequence of calls, what each of them may take, and what must hold between them and in the end.

use crate::bytes::Bytes;
use crate::device::Counted;
use crate::memory::{MEMORY, Memory};
use qmk_kernel::abi::syscall::{ObjectKind, Quota};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::{Device, LinkSpec};
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Checked;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a call takes: time, bytes above what there was, and calls of the device.
pub(crate) struct Taken {
    pub(crate) time: Duration,
    pub(crate) bytes: i64,
    pub(crate) work: u64,
}

pub(crate) struct Fuzz<'a> {
    pub(crate) kernel: Kernel<Counted>,
    pub(crate) bytes: Bytes<'a>,
    pub(crate) root: DomainId,
    pub(crate) domains: Vec<DomainId>,
    /// Every handle that was ever seen.
    pub(crate) seen: Vec<Handle>,
    pub(crate) lockstep: bool,
    /// Most of what is made is left to be.
    pub(crate) gentle: bool,
    /// The root's capability, which stays to the end.
    pub(crate) machine: Handle,
    /// Calls that succeeded.
    pub(crate) done: Done,
}

/// How often calls succeeded, by name.
pub(crate) type Done = BTreeMap<String, u64>;

impl Fuzz<'_> {
    pub(crate) fn perform(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        let size = postcard::to_allocvec(&call).map_or(0, |b| b.len()) as i64;
        let text = format!("{d:?} {call:?}");
        if std::env::var_os("QMK_FUZZ_SEED").is_some() {
            eprintln!("{text}");
        }
        let (reply, taken) = self.measure(|k| k.syscall(d, call));
        // A rollback and an uncomputation are as long as what was done before, a deletion ends what was there.
        assert!(taken.work <= 8192, "{text}: {} device calls", taken.work);
        assert!(taken.time < Duration::from_secs(4), "{text}: {:?}", taken.time);
        // An outcome may be a MiB long, a plan covers 2^16 epochs, and tables double.
        let most = (8 << 20) + 1024 * size;
        assert!(taken.bytes <= most, "{text}: {} bytes", taken.bytes);
        if let Ok(reply) = &reply {
            let name = text.split(' ').nth(1).unwrap_or_default().to_string();
            *self.done.entry(name).or_default() += 1;
            match reply {
                Reply::Handle(h) => self.seen.push(*h),
                Reply::Offered { endpoint, invitation } => self.seen.extend([*endpoint, *invitation]),
                _ => {}
            }
        }
        reply
    }

    pub(crate) fn measure<R>(&mut self, f: impl FnOnce(&mut Kernel<Counted>) -> R) -> (R, Taken) {
        let calls = self.kernel.device().calls;
        let before = MEMORY.get();
        MEMORY.set(Memory { peak: before.now, ..before });
        let start = Instant::now();
        let result = f(&mut self.kernel);
        let time = start.elapsed();
        let bytes = MEMORY.get().peak - before.now;
        (result, Taken { time, bytes, work: self.kernel.device().calls - calls })
    }

    pub(crate) fn step(&mut self) {
        match self.bytes.below(16) {
            0..=2 => {
                for _ in 0..1 + self.bytes.below(12) {
                    if std::env::var_os("QMK_FUZZ_SEED").is_some() {
                        eprintln!("advance");
                    }
                    let (_, taken) = self.measure(|k| k.advance());
                    assert!(taken.time < Duration::from_secs(4), "an epoch took {:?}", taken.time);
                    assert!(taken.bytes < 32 << 20, "an epoch took {} bytes", taken.bytes);
                }
            }
            3 if !self.lockstep => {
                let pace = self.bytes.pick(&[0, 1, 100, 1 << 11, 1 << 14, 1 << 16]);
                self.kernel.set_clock(Clock::FreeRunning { pace });
            }
            n => {
                let d = if self.bytes.below(3) == 0 { self.root } else { self.bytes.pick(&self.domains) };
                let d = if self.bytes.rarely(200) { DomainId(self.bytes.small(9)) } else { d };
                let call = if n == 4 { self.raw(d) } else { Some(self.call(d)) };
                let Some(call) = call else { return };
                if d == self.root && call == (Syscall::Delete { target: self.machine }) {
                    return;
                }
                match (call.clone(), self.perform(d, call)) {
                    (Syscall::CreateDomain { machine, .. }, Ok(Reply::Handle(made))) => {
                        self.domains.extend(self.kernel.domain_of(d, made));
                        self.introduce(d, machine, made);
                    }
                    (Syscall::Offer { to, .. }, Ok(Reply::Offered { invitation, .. })) => {
                        if let Some(other) = self.kernel.domain_of(d, to) {
                            self.answer(other, invitation);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Gives a new domain the machine, and lets it know others and others know it.
    pub(crate) fn introduce(&mut self, d: DomainId, machine: Handle, made: Handle) {
        let derive =
            |source, into| Syscall::Derive { source, rights: Rights::all(), badge: 0, into: Some(into), budget: None };
        let rights = self.kernel.capabilities(d).into_iter().find(|c| c.0 == machine).map_or(Rights::all(), |c| c.2);
        let drop = if self.bytes.below(3) == 0 { Rights::ADMIN } else { Rights::empty() };
        let mut give = derive(machine, made);
        if let Syscall::Derive { rights: keep, .. } = &mut give {
            *keep = rights - drop;
        }
        let _ = self.perform(d, give);
        let known = self.handle(d, ObjectKind::Domain);
        for (source, into) in [(known, made), (made, known)] {
            let mut give = derive(source, into);
            if let Syscall::Derive { rights, .. } = &mut give {
                *rights = Rights::OBJECT;
            }
            let _ = self.perform(d, give);
        }
    }

    /// Most offers are accepted, for which chance alone would take long.
    pub(crate) fn answer(&mut self, domain: DomainId, endpoint: Handle) {
        if self.bytes.below(4) == 0 {
            return;
        }
        let machine = self.handle(domain, ObjectKind::Machine);
        if self.bytes.below(4) > 0 {
            let _ = self.perform(domain, Syscall::TakeQubit { machine });
        }
        let qubit = self.handle(domain, ObjectKind::Qubit);
        let _ = self.perform(domain, Syscall::Accept { machine, endpoint, qubit });
        if self.bytes.below(2) == 0 {
            for _ in 0..self.bytes.below(64) {
                self.kernel.advance();
            }
            let endpoints = [endpoint, self.handle(domain, ObjectKind::Endpoint)];
            let _ = self.perform(domain, Syscall::SwapEntanglement { machine, endpoints });
        }
    }

    /// What is free and what domains use is all there is.
    pub(crate) fn check(&mut self) {
        let total = self.kernel.device().spec().logical_qubits;
        let mut held = 0;
        for d in self.domains.clone() {
            if let Ok(Reply::Usage { used, .. }) = self.kernel.syscall(d, Syscall::Usage) {
                assert_eq!(used.slots as usize, self.kernel.capabilities(d).len(), "slots of {d:?}");
                held += used.qubits;
            }
        }
        // Domains that are being taken down hold theirs to the end.
        assert!(
            self.kernel.free_qubits() + held <= total,
            "{} free and {held} held of {total}",
            self.kernel.free_qubits()
        );
        assert!(self.kernel.device().inner.kept()[0] <= 4096);
    }

    pub(crate) fn revoke(&mut self, target: Handle, itself: bool) {
        for _ in 0..1000 {
            let call = if itself { Syscall::Delete { target } } else { Syscall::Revoke { target } };
            match self.perform(self.root, call) {
                Ok(Reply::Deleted { count, more }) => {
                    assert!(count <= 1024);
                    if !more {
                        return;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("there is no end to it");
    }

    /// Revokes everything; nothing may be left.
    pub(crate) fn end(&mut self, machine: Handle) {
        self.revoke(machine, false);
        // Other first capabilities there are none.
        let left = self.kernel.capabilities(self.root);
        assert_eq!(left.iter().map(|c| c.0).collect::<Vec<_>>(), [machine]);
        assert_eq!(self.kernel.free_qubits(), self.kernel.device().spec().logical_qubits);
        assert_eq!(self.kernel.device().inner.kept(), [0, 0], "spaces are open, or states saved");
        let Ok(Reply::Usage { used, .. }) = self.kernel.syscall(self.root, Syscall::Usage) else { panic!("no root") };
        let rest =
            (used.qubits, used.physical_qubits, used.strands, used.instructions, used.channels, used.checkpoints);
        assert_eq!((rest, used.slots), ((0, 0, 0, 0, 0, 0), 1));
        // The root holds one capability, and nothing is in the kernel's tables that no capability names.
        self.kernel.audit().unwrap();
        let stats = self.kernel.stats();
        assert_eq!((stats.objects, stats.domains, stats.regions.len()), (1, 1, 1));
        // And it works.
        let report = self.kernel.advance();
        assert!(!report.busy);
        if self.bytes.below(4) == 0 {
            self.revoke(machine, true);
            assert!(self.kernel.capabilities(self.root).is_empty());
        }
    }
}

/// Plays a sequence; returns which calls succeeded.
pub(crate) fn run(bytes: &[u8]) -> Done {
    let mut bytes = Bytes { left: bytes };
    let logical_qubits = bytes.pick(&[1, 4, 12, 24, 40]);
    let raw = bytes.pick(&[[0.95, 0.02, 0.02, 0.01], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.7, 0.1, 0.1, 0.1]]);
    let config = SimConfig {
        logical_qubits,
        routes_per_epoch: bytes.pick(&[0, 2, 8]),
        magic_per_epoch: bytes.pick(&[0, 1, 8, 64]),
        magic_buffer: bytes.pick(&[None, None, Some(0), Some(30), Some(u32::MAX)]),
        decoded_per_epoch: bytes.pick(&[None, None, Some(0), Some(logical_qubits / 2)]),
        link: LinkSpec { raw, pairs_per_epoch: bytes.pick(&[0, 1, 16]) },
        snapshot: !bytes.rarely(6),
        state_bytes: bytes.pick(&[u64::MAX, u64::MAX, 40_000, 2_000]),
        owner_state_bytes: None,
        threads: 1,
    };
    let quota =
        Quota { weight: bytes.small(3), instructions: 1 << 16, active: 10, held_active: 10, ..Quota::UNLIMITED };
    let device = Counted { inner: Checked::over(SimDevice::new(config)), calls: 0 };
    let (mut kernel, root, machine) = Kernel::boot(device, bytes.u64(), quota);
    let lockstep = bytes.below(3) == 0;
    let gentle = bytes.below(2) == 0;
    let clock = if lockstep { Clock::Lockstep } else { Clock::FreeRunning { pace: 1 << 12 } };
    kernel.set_clock(clock);
    let mut fuzz = Fuzz {
        kernel,
        bytes,
        root,
        domains: vec![root],
        seen: vec![machine],
        lockstep,
        gentle,
        machine,
        done: Done::new(),
    };
    let quota = Quota { instructions: 1 << 16, active: 10, held_active: 10, ..Quota::UNLIMITED };
    for _ in 0..fuzz.bytes.below(4) {
        let Ok(Reply::Handle(made)) = fuzz.perform(root, Syscall::CreateDomain { machine, quota }) else { continue };
        if let Some(domain) = fuzz.kernel.domain_of(root, made) {
            fuzz.domains.push(domain);
            fuzz.introduce(root, machine, made);
        }
    }
    let mut steps = 0u32;
    while !fuzz.bytes.left.is_empty() {
        fuzz.step();
        steps += 1;
        if steps.is_multiple_of(32) {
            fuzz.check();
        }
    }
    fuzz.end(machine);
    fuzz.done
}
