//! Several epochs at once, against the same one by one.

extern crate std;

use crate::object::Object;
use crate::state::{Clock, Kernel};
use crate::{DomainId, EpochReport};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
use qmk_abi::syscall::{ObjectKind, Quota, Run};
use qmk_abi::{Handle, Reply, Rights, Syscall};
use qmk_hal::LinkSpec;
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::{Rng, programs};

/// All that later epochs depend on, but for what is made when first asked for.
fn state(kernel: &Kernel<SimDevice>) -> String {
    let regions = kernel.regions.iter().map(|(id, r)| {
        let releases: Vec<u32> = r.route_releases.iter().copied().take(r.routes_in_use as usize).collect();
        format!(
            "{id:?} {:?} {releases:?} {:?} {:?} {:?}",
            (
                r.free_qubits(),
                r.interactive_qubits(),
                r.magic_stock,
                r.spare_magic(),
                r.decoder_backlog,
                r.routes_in_use,
                r.recheck_waiting
            ),
            (r.qubits, r.routes, r.reservations.len(), r.may_reserve(&[])),
            r.waiting,
            r.running
        )
    });
    let strands = kernel.objects.iter().filter_map(|(id, e)| match &e.object {
        Object::Strand(s) => {
            Some(format!("{id:?} {:?} {:?} {:?}", s.status(kernel.epoch), s.last_issue, s.last_charged_epoch))
        }
        _ => None,
    });
    let contexts = kernel.contexts.iter().map(|(id, c)| format!("{id:?} {c:?}"));
    let domains = kernel.domains.iter().map(|(_, d)| format!("{d:?}"));
    let mut lines: Vec<String> = regions.chain(strands).chain(contexts).chain(domains).collect();
    lines.push(format!("{:?} {} {} {:?}", kernel.epoch, kernel.pairs_due, kernel.device_vtime, kernel.dying));
    lines.join("\n")
}

/// A program, mostly without magic: epochs in which someone waits for magic states do not pass at once.
pub(super) fn program(dice: &mut Rng) -> Image {
    let mut image = programs::program(dice.below(40), 14, 5, dice);
    if !dice.one_in(8) {
        image.code.iter_mut().for_each(|instr| instr.op = without_magic(instr.op));
    }
    image
}

fn without_magic(op: Op) -> Op {
    match op {
        Op::T(q) | Op::Tdg(q) | Op::Rotate(_, q, _) | Op::InjectT(q) => Op::Clifford1(Clifford1::H, q),
        Op::Ccz(a, b, _) | Op::Toffoli(a, b, _) => Op::Clifford2(Clifford2::Cnot, a, b),
        Op::MeasureAngle(_, q, event) => Op::Measure(Pauli::Y, q, event),
        other => other,
    }
}

/// Two kernels that are told the same.
struct Twins {
    kernels: [Kernel<SimDevice>; 2],
    /// How often the first passed several epochs at once, and in how many of them raw pairs were made.
    at_once: u32,
    linking: u32,
}

impl Twins {
    /// The twins, their root and its machine capability.
    fn boot(config: &SimConfig, seed: u64) -> (Self, DomainId, Handle) {
        let boot = || Kernel::boot(SimDevice::new(config.clone()), seed, Quota::UNLIMITED);
        let ((a, root, machine), (b, ..)) = (boot(), boot());
        (Twins { kernels: [a, b], at_once: 0, linking: 0 }, root, machine)
    }

    fn call(&mut self, d: DomainId, call: Syscall) -> Option<Reply> {
        let [a, b] = &mut self.kernels;
        let (first, second) = (a.syscall(d, call.clone()), b.syscall(d, call.clone()));
        assert_eq!(first, second, "{call:?}");
        first.ok()
    }

    fn handle(&mut self, d: DomainId, call: Syscall) -> Option<Handle> {
        match self.call(d, call)? {
            Reply::Handle(handle) => Some(handle),
            _ => None,
        }
    }

    /// The root's qubit and one of the first tenant become a pair, which takes many raw ones.
    fn link(&mut self, qubit: Handle, tenants: &[(DomainId, Handle)], to: Handle) {
        let [(root, machine), (tenant, mine), ..] = *tenants else { return };
        self.call(root, Syscall::Offer { machine, qubit, to, fidelity: 0.999 });
        let mut held = self.kernels[0].capabilities(tenant).into_iter();
        let Some((endpoint, ..)) = held.rfind(|c| c.1 == ObjectKind::Endpoint) else { return };
        let Some(qubit) = self.handle(tenant, Syscall::TakeQubit { machine: mine }) else { return };
        if self.call(tenant, Syscall::Accept { machine: mine, endpoint, qubit }).is_none() {
            self.call(tenant, Syscall::FreeQubit { qubit, uncompute: None });
        }
    }

    /// Returns whether there is more to do.
    fn advance(&mut self, most: u64) -> bool {
        let [a, b] = &mut self.kernels;
        let (from, due) = (a.epoch(), a.pairs_due);
        let all = a.advance_by(most);
        assert!((1..=most).contains(&(a.epoch() - from)));
        let mut sum = EpochReport::default();
        while b.epoch() < a.epoch() {
            let one = b.advance();
            sum = EpochReport {
                issued: sum.issued + one.issued,
                ended: sum.ended + one.ended,
                turns: sum.turns + one.turns,
                ..one
            };
        }
        assert_eq!(all, sum);
        let many = a.epoch() - from > 1;
        self.at_once += many as u32;
        self.linking += (many && due > 0) as u32;
        all.busy
    }
}

/// Twins with the root and three tenants, and what these hold.
struct World {
    twins: Twins,
    root: DomainId,
    /// Domains with a machine capability each, the root first.
    tenants: Vec<(DomainId, Handle)>,
    /// The root's capabilities for the tenants.
    controls: Vec<Handle>,
    strands: Vec<(DomainId, Handle)>,
    regions: Vec<Handle>,
}

impl World {
    fn new(case: u64, dice: &mut Rng) -> Self {
        let config = SimConfig {
            logical_qubits: 12,
            routes_per_epoch: dice.pick(&[3, 6, 12]),
            magic_per_epoch: 2,
            decoded_per_epoch: dice.pick(&[None, Some(4)]),
            threads: 1,
            link: LinkSpec { pairs_per_epoch: 1, ..SimConfig::default().link },
            ..SimConfig::default()
        };
        let (mut twins, root, machine) = Twins::boot(&config, case);
        let clock = dice.pick(&[Clock::Lockstep, Clock::FreeRunning { pace: 64 }]);
        twins.kernels.iter_mut().for_each(|k| k.set_clock(clock));
        let (tenants, controls) = (vec![(root, machine)], Vec::new());
        let mut world = World { twins, root, tenants, controls, strands: Vec::new(), regions: Vec::new() };
        let quotas = [
            Quota::UNLIMITED,
            Quota { weight: 3, ..Quota::UNLIMITED },
            Quota { epochs: 9, window: 20, ..Quota::UNLIMITED },
        ];
        quotas.into_iter().for_each(|quota| world.add_tenant(quota));
        world
    }

    fn add_tenant(&mut self, quota: Quota) {
        let (root, machine) = self.tenants[0];
        let control = self.twins.handle(root, Syscall::CreateDomain { machine, quota }).unwrap();
        let tenant = self.twins.kernels[0].domain_of(root, control).unwrap();
        let rights = Rights::all() - Rights::ADMIN;
        let derive = Syscall::Derive { source: machine, rights, badge: 1, into: Some(control), budget: None };
        let machine = self.twins.handle(root, derive).unwrap();
        self.controls.push(control);
        self.tenants.push((tenant, machine));
    }

    /// The machine capability of a domain.
    fn machine(&self, domain: DomainId) -> Handle {
        self.tenants.iter().find(|t| t.0 == domain).unwrap().1
    }

    /// A call of someone, or some epochs.
    fn step(&mut self, dice: &mut Rng) {
        let (d, machine) = dice.pick(&self.tenants);
        let strand = (!self.strands.is_empty()).then(|| dice.pick(&self.strands));
        match (dice.below(24), strand) {
            (0..=4 | 20.., _) => self.spawn(d, machine, dice),
            (5, _) => {
                self.strands.drain(..).for_each(|(d, target)| _ = self.twins.call(d, Syscall::Delete { target }));
            }
            (6, Some((d, strand))) => _ = self.twins.call(d, Syscall::Pause { strand, paused: dice.one_in(2) }),
            (7, Some((d, strand))) if d == self.root => {
                _ = self.twins.call(d, Syscall::Migrate { strand, region: self.regions.last().copied() });
            }
            (8, Some((d, strand))) => {
                let machine = self.machine(d);
                self.twins.call(d, Syscall::Checkpoint { machine, strand: Some(strand) });
            }
            (9, Some((d, strand))) => {
                let machine = self.machine(d);
                self.twins.call(d, Syscall::Rollback { machine, strand: Some(strand) });
            }
            (10, _) => self.take_qubit(d, machine, dice),
            (11, _) => {
                let create = Syscall::CreateRegion { machine: self.tenants[0].1, qubits: 4, routes: 4, magic: 0 };
                self.regions.extend(self.twins.handle(self.root, create));
            }
            (12, _) => {
                if let Some(target) = self.regions.pop() {
                    self.twins.call(self.root, Syscall::Delete { target });
                }
            }
            (13..=16, _) => _ = self.twins.advance(1 + dice.below(30) as u64),
            // Held strands never end.
            _ => _ = (0..100).find(|_| !self.twins.advance(u64::MAX)),
        }
    }

    fn spawn(&mut self, d: DomainId, machine: Handle, dice: &mut Rng) {
        let Some(image) = self.twins.handle(d, Syscall::Admit { machine, image: program(dice) }) else { return };
        let deadline = dice.one_in(12).then_some(400);
        let region = self.regions.last().copied().filter(|_| d == self.root && dice.one_in(2));
        let run = Run { shots: 1 + dice.below(40) as u64, seed: dice.next(), region, deadline, ..Run::default() };
        self.strands.extend(self.twins.handle(d, Syscall::Spawn { machine, image, run }).map(|h| (d, h)));
        if dice.one_in(2) {
            self.twins.advance(u64::MAX);
        }
    }

    fn take_qubit(&mut self, d: DomainId, machine: Handle, dice: &mut Rng) {
        let Some(qubit) = self.twins.handle(d, Syscall::TakeQubit { machine }) else { return };
        if d == self.root {
            self.twins.link(qubit, &self.tenants, self.controls[0]);
        }
        if dice.one_in(2) {
            self.twins.call(d, Syscall::FreeQubit { qubit, uncompute: None });
        }
    }

    /// The twins tell the same and are the same.
    fn check(&mut self, case: u64) {
        for &(d, strand) in &self.strands {
            self.twins.call(d, Syscall::Status { strand });
            self.twins.call(d, Syscall::Outcomes { strand, first: 0, count: 100 });
        }
        for &(d, _) in &self.tenants {
            self.twins.call(d, Syscall::Usage);
        }
        let [a, b] = &self.twins.kernels;
        a.audit().unwrap();
        assert_eq!(state(a), state(b), "case {case}");
    }
}

#[test]
fn epochs_at_once_come_to_the_same_as_one_by_one() {
    let (mut at_once, mut linking) = (0, 0);
    for case in 0..400 {
        let mut dice = Rng::new(case);
        let mut world = World::new(case, &mut dice);
        for _ in 0..60 {
            world.step(&mut dice);
            world.check(case);
        }
        at_once += world.twins.at_once;
        linking += world.twins.linking;
    }
    assert!(at_once > 500 && linking > 20, "{at_once} {linking}");
}

#[test]
fn two_patches_that_are_used_again_and_again_take_the_time_of_one_after_the_other() {
    let blocks = 5;
    let code = (0..blocks).flat_map(|i| {
        let (a, b) = (2 * i, 2 * i + 1);
        let cnot = Op::Clifford2(Clifford2::Cnot, a, b);
        [Op::Alloc(a), Op::Alloc(b), cnot, Op::Free(a), Op::Free(b)].map(|op| Instr { op, cond: None })
    });
    let image = Image { qubits: 2 * blocks, events: 0, code: code.collect(), terms: Vec::new() };
    let config = SimConfig { logical_qubits: 12, routes_per_epoch: 2, threads: 1, ..SimConfig::default() };
    let (mut twins, root, machine) = Twins::boot(&config, 0);
    let image = twins.handle(root, Syscall::Admit { machine, image }).unwrap();
    let strand = twins.handle(root, Syscall::Spawn { machine, image, run: Run::default() }).unwrap();
    while twins.advance(u64::MAX) {}
    let Some(Reply::Status(status)) = twins.call(root, Syscall::Status { strand }) else { panic!("no status") };
    assert_eq!((status.epochs, twins.at_once), (2 * blocks as u64, 1));
}
