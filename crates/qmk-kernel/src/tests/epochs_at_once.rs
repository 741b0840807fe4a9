//! Several epochs at once, against the same one by one.

extern crate std;

use crate::image::uncompute::tests::Dice;
use crate::object::Object;
use crate::state::{Clock, Kernel};
use crate::{DomainId, EpochReport};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_abi::syscall::{ObjectKind, Quota, Run};
use qmk_abi::{Handle, Reply, Rights, Syscall};
use qmk_hal::LinkSpec;
use qmk_sim::{SimConfig, SimDevice};

fn one_in(n: u64, dice: &mut Dice) -> bool {
    dice.next().is_multiple_of(n)
}

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

pub(super) fn program(dice: &mut Dice) -> Image {
    let qubits = 1 + (dice.next() % 6) as u32;
    let (mut code, mut terms, mut events) = (Vec::new(), Vec::new(), 0);
    let magic = one_in(8, dice);
    // Half of the programs use registers one after the other.
    let changing = one_in(2, dice);
    let mut live = vec![!changing; qubits as usize];
    code.extend((0..qubits).filter(|_| !changing).map(|q| Instr { op: Op::Alloc(q), cond: None }));
    for _ in 0..dice.next() % 40 {
        let q = (dice.next() % qubits as u64) as u32;
        let change = !live[q as usize] || changing && one_in(6, dice);
        if change {
            let op = if live[q as usize] { Op::Free(q) } else { Op::Alloc(q) };
            live[q as usize] ^= true;
            code.push(Instr { op, cond: None });
            continue;
        }
        let other = Some((q + 1) % qubits).filter(|&other| live[other as usize]).unwrap_or(q);
        let measure = |basis| Op::Measure(basis, q, events);
        let mut cond = None;
        let op = match dice.next() % 14 {
            0 => Op::Clifford1(Clifford1::H, q),
            1 => Op::Clifford1(Clifford1::S, q),
            2 if magic => Op::T(q),
            3 => measure(Pauli::Y),
            4 => measure(Pauli::Z),
            5 => Op::Fence,
            6 => Op::Reset(q),
            7 if q != other => Op::TeleportCnot(q, other),
            8 if q != other => Op::MeasureBell(q, other, events, events + 1),
            9 if events > 0 => {
                let first = terms.len() as u32;
                terms.push(CondTerm::Event((dice.next() % events as u64) as u32));
                cond = Some(Cond { start: first, end: first + 1 });
                Op::Clifford1(Clifford1::H, q)
            }
            _ if q != other => Op::Clifford2(Clifford2::Cnot, q, other),
            _ => Op::Pauli(Pauli::X, q),
        };
        events += op.writes().count() as u32;
        code.push(Instr { op, cond });
    }
    Image { qubits, events, code, terms }
}

/// Two kernels that are told the same.
struct Twins {
    kernels: [Kernel<SimDevice>; 2],
    /// How often the first passed several epochs at once, and in how many of them raw pairs were made.
    at_once: u32,
    linking: u32,
}

impl Twins {
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

#[test]
fn epochs_at_once_come_to_the_same_as_one_by_one() {
    let (mut at_once, mut linking) = (0, 0);
    for case in 0..400 {
        let mut dice = Dice(case);
        let config = SimConfig {
            logical_qubits: 12,
            routes_per_epoch: [3, 6, 12][dice.next() as usize % 3],
            magic_per_epoch: 2,
            decoded_per_epoch: [None, Some(4)][dice.next() as usize % 2],
            threads: 1,
            link: LinkSpec { pairs_per_epoch: 1, ..SimConfig::default().link },
            ..SimConfig::default()
        };
        let boot = || Kernel::boot(SimDevice::new(config.clone()), case, Quota::UNLIMITED);
        let ((a, root, machine), (b, ..)) = (boot(), boot());
        let mut twins = Twins { kernels: [a, b], at_once: 0, linking: 0 };
        if one_in(2, &mut dice) {
            twins.kernels.iter_mut().for_each(|k| k.set_clock(Clock::Lockstep));
        } else {
            twins.kernels.iter_mut().for_each(|k| k.set_clock(Clock::FreeRunning { pace: 64 }));
        }
        let quotas = [
            Quota::UNLIMITED,
            Quota { weight: 3, ..Quota::UNLIMITED },
            Quota { epochs: 9, window: 20, ..Quota::UNLIMITED },
        ];
        let (mut tenants, mut controls) = (vec![(root, machine)], Vec::new());
        for quota in quotas {
            let control = twins.handle(root, Syscall::CreateDomain { machine, quota }).unwrap();
            controls.push(control);
            let tenant = twins.kernels[0].domain_of(root, control).unwrap();
            let rights = Rights::all() - Rights::ADMIN;
            let derive = Syscall::Derive { source: machine, rights, badge: 1, into: Some(control), budget: None };
            tenants.push((tenant, twins.handle(root, derive).unwrap()));
        }
        let mut held: Vec<(DomainId, Handle)> = Vec::new();
        let mut regions = Vec::new();
        for _ in 0..60 {
            let (d, machine) = tenants[dice.next() as usize % tenants.len()];
            let some = (!held.is_empty()).then(|| held[dice.next() as usize % held.len().max(1)]);
            match (dice.next() % 24, some) {
                (0..=4 | 20.., _) => {
                    let Some(image) = twins.handle(d, Syscall::Admit { machine, image: program(&mut dice) }) else {
                        continue;
                    };
                    let deadline = (one_in(12, &mut dice)).then_some(400);
                    let region = regions.last().copied().filter(|_| d == root && one_in(2, &mut dice));
                    let (shots, seed) = (1 + dice.next() % 40, dice.next());
                    let run = Run { shots, seed, region, deadline, ..Run::default() };
                    held.extend(twins.handle(d, Syscall::Spawn { machine, image, run }).map(|h| (d, h)));
                    if one_in(2, &mut dice) {
                        twins.advance(u64::MAX);
                    }
                }
                (5, _) => held.drain(..).for_each(|(d, target)| _ = twins.call(d, Syscall::Delete { target })),
                (6, Some((d, strand))) => _ = twins.call(d, Syscall::Pause { strand, paused: one_in(2, &mut dice) }),
                (7, Some((d, strand))) if d == root => {
                    _ = twins.call(d, Syscall::Migrate { strand, region: regions.last().copied() });
                }
                (8, Some((d, strand))) => {
                    let machine = tenants.iter().find(|t| t.0 == d).unwrap().1;
                    twins.call(d, Syscall::Checkpoint { machine, strand: Some(strand) });
                }
                (9, Some((d, strand))) => {
                    let machine = tenants.iter().find(|t| t.0 == d).unwrap().1;
                    twins.call(d, Syscall::Rollback { machine, strand: Some(strand) });
                }
                (10, _) => {
                    let Some(qubit) = twins.handle(d, Syscall::TakeQubit { machine }) else { continue };
                    if d == root {
                        twins.link(qubit, &tenants, controls[0]);
                    }
                    if one_in(2, &mut dice) {
                        twins.call(d, Syscall::FreeQubit { qubit, uncompute: None });
                    }
                }
                (11, _) => {
                    let create = Syscall::CreateRegion { machine: tenants[0].1, qubits: 4, routes: 4, magic: 0 };
                    regions.extend(twins.handle(root, create));
                }
                (12, _) => {
                    regions.pop().into_iter().for_each(|target| _ = twins.call(root, Syscall::Delete { target }))
                }
                (13..=16, _) => _ = twins.advance(1 + dice.next() % 30),
                // Held strands never end.
                _ => _ = (0..100).find(|_| !twins.advance(u64::MAX)),
            }
            for &(d, strand) in &held {
                twins.call(d, Syscall::Status { strand });
                twins.call(d, Syscall::Outcomes { strand, first: 0, count: 100 });
            }
            for &(d, _) in &tenants {
                twins.call(d, Syscall::Usage);
            }
            let [a, b] = &twins.kernels;
            a.audit().unwrap();
            assert_eq!(state(a), state(b), "case {case}");
        }
        at_once += twins.at_once;
        linking += twins.linking;
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
    let boot = || Kernel::boot(SimDevice::new(config.clone()), 0, Quota::UNLIMITED);
    let ((a, root, machine), (b, ..)) = (boot(), boot());
    let mut twins = Twins { kernels: [a, b], at_once: 0, linking: 0 };
    let image = twins.handle(root, Syscall::Admit { machine, image }).unwrap();
    let strand = twins.handle(root, Syscall::Spawn { machine, image, run: Run::default() }).unwrap();
    while twins.advance(u64::MAX) {}
    let Some(Reply::Status(status)) = twins.call(root, Syscall::Status { strand }) else { panic!("no status") };
    assert_eq!((status.epochs, twins.at_once), (2 * blocks as u64, 1));
}
