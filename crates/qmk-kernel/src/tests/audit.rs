//! Each invariant broken once: the audit names it. And the kernel stops once one is met.

extern crate std;

use crate::DomainId;
use crate::cap::space::SlotRef;
use crate::errors::Broken;
use crate::holding::Holding;
use crate::ids::{ContextId, ObjectId, RegionId, StrandId};
use crate::interactive::channel::Side;
use crate::limits::MAX_DELETIONS;
use crate::object::Object;
use crate::state::{Clock, Deletion, Kernel};
use crate::strand::checkpoint::CheckpointTarget;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::image::{Clifford2, Image, Instr, Op};
use qmk_abi::syscall::{Budget, ChannelState, ObjectKind, Quota, Run, StrandState};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_sim::{SimConfig, SimDevice};

/// A kernel with some of everything: two tenants with budgets, a region, a linked channel and an offered one, a
/// checkpoint to be taken, a strand with a deadline, one that is paused at a fence, one that waits and one under way.
struct Busy {
    kernel: Kernel<SimDevice>,
    root: DomainId,
    tenant: DomainId,
}

impl Busy {
    fn handle(&mut self, caller: DomainId, call: Syscall) -> Handle {
        match self.kernel.syscall(caller, call.clone()) {
            Ok(Reply::Handle(handle)) => handle,
            other => panic!("{call:?}: {other:?}"),
        }
    }

    fn new() -> Self {
        let config = SimConfig {
            logical_qubits: 20,
            routes_per_epoch: 4,
            magic_per_epoch: 2,
            snapshot: true,
            threads: 1,
            ..SimConfig::default()
        };
        let (mut kernel, root, machine) = Kernel::boot(SimDevice::new(config), 0, Quota::UNLIMITED);
        kernel.set_clock(Clock::FreeRunning { pace: 64 });
        let mut busy = Busy { kernel, root, tenant: root };
        let quota = Quota {
            qubits: 16,
            physical_qubits: 1 << 30,
            strands: 8,
            instructions: 10_000,
            channels: 4,
            checkpoints: 4,
            slots: 64,
            ..Quota::UNLIMITED
        };
        let control = busy.handle(root, Syscall::CreateDomain { machine, quota });
        busy.tenant = busy.kernel.domain_of(root, control).unwrap();
        let tenant = busy.tenant;
        let rights = Rights::all() - Rights::ADMIN;
        let budget = Some(Budget { strands: 8, qubits: 32, magic: 1000 });
        let mine =
            busy.handle(root, Syscall::Derive { source: machine, rights, badge: 1, into: Some(control), budget });
        busy.handle(root, Syscall::CreateRegion { machine, qubits: 2, routes: 1, magic: 1 });
        // Two channels, one of them accepted.
        for accepted in [true, false] {
            let qubit = busy.handle(root, Syscall::TakeQubit { machine });
            let offer = Syscall::Offer { machine, qubit, to: control, fidelity: 0.9 };
            let Ok(Reply::Offered { invitation: endpoint, .. }) = busy.kernel.syscall(root, offer) else { panic!() };
            if accepted {
                let qubit = busy.handle(tenant, Syscall::TakeQubit { machine: mine });
                busy.kernel.syscall(tenant, Syscall::Accept { machine: mine, endpoint, qubit }).unwrap();
            }
        }
        let strand = |busy: &mut Busy, qubits, deadline| {
            let image = busy.handle(tenant, Syscall::Admit { machine: mine, image: chain(qubits) });
            busy.handle(tenant, Syscall::Spawn { machine: mine, image, run: Run { deadline, ..Run::default() } })
        };
        strand(&mut busy, 2, Some(400));
        let paused = strand(&mut busy, 3, None);
        strand(&mut busy, 3, None);
        strand(&mut busy, 9, None);
        busy.kernel.syscall(tenant, Syscall::Pause { strand: paused, paused: true }).unwrap();
        busy.kernel.advance();
        let checkpoint = Syscall::Checkpoint { machine: mine, strand: Some(paused) };
        busy.handle(tenant, checkpoint);
        busy.kernel.audit().unwrap();
        busy
    }

    fn object(&self, is: impl Fn(&Object) -> bool) -> ObjectId {
        self.kernel.objects.iter().find(|(_, e)| is(&e.object)).unwrap().0
    }

    fn strand(&self, state: StrandState) -> StrandId {
        StrandId::of(self.object(|o| matches!(o, Object::Strand(s) if s.state == state)))
    }

    fn region(&mut self) -> &mut crate::sched::region::Region {
        self.kernel.regions.get_mut(RegionId::SHARED).unwrap()
    }

    fn domain(&mut self) -> &mut crate::domain::Domain {
        self.kernel.domains.get_mut(self.tenant).unwrap()
    }

    fn context(&mut self) -> ContextId {
        self.domain().context
    }

    fn linked(&mut self) -> &mut crate::interactive::channel::Channel {
        let (_, channel) = self.kernel.channels.iter_mut().find(|(_, c)| c.state == ChannelState::Linked).unwrap();
        channel
    }

    /// A slot of the tenant that is in use.
    fn slot(&self) -> SlotRef {
        let space = &self.kernel.domains.get(self.tenant).unwrap().capabilities;
        SlotRef { domain: self.tenant, slot: space.occupied().last().unwrap().0.slot }
    }
}

/// A chain of two-qubit gates that takes long, in two fence segments.
fn chain(qubits: u32) -> Image {
    let plain = |op| Instr { op, cond: None };
    let mut code: Vec<Instr> = (0..qubits).map(|q| plain(Op::Alloc(q))).collect();
    for round in 0..40 {
        code.extend((1..qubits).map(|q| plain(Op::Clifford2(Clifford2::Cnot, q - 1, q))));
        code.extend((round == 30).then_some(plain(Op::Fence)));
        code.extend((round % 8 == 0).then_some(plain(Op::T(0))));
    }
    code.extend((0..qubits).map(|q| plain(Op::Free(q))));
    Image { qubits, events: 0, code, terms: vec![] }
}

const QUBIT: Holding = Holding::qubits_of(1, 0);

/// A story of the audit, and how to make it come true.
type Case = (&'static str, fn(&mut Busy));

const CASES: &[Case] = &[
    ("a free number is in use, or an unused one is not free", |b| b.kernel.objects.corrupt()),
    ("more deletions are under way than may be", |b| {
        let deletion = Deletion { domain: b.root, target: Handle { slot: 0, generation: 1 }, itself: false };
        b.kernel.deletions = vec![deletion; MAX_DELETIONS + 1];
    }),
    ("a context is left that no domain and no object names", |b| {
        b.kernel.contexts.insert(crate::sched::fair_queue::SchedContext::new(1, 1, 1));
    }),
    ("a region is left that no object names", |b| {
        b.kernel.regions.insert(crate::sched::region::Region::new(0, 0, 0, 0, 0));
    }),
    ("a channel is left without endpoints", |b| {
        Side::BOTH.into_iter().for_each(|side| b.linked().end_mut(side).object = None);
    }),
    ("a domain is left that no object names", |b| _ = b.kernel.add_domain(Quota::UNLIMITED)),
    ("a domain is dead and not being emptied, or not dead and is", |b| b.domain().dead = true),
    ("a capability space miscounts its slots", |b| b.domain().capabilities.corrupt()),
    ("a domain has more capabilities than its quota of slots", |b| b.domain().quota.slots = 2),
    ("the derivation list has two heads", |b| {
        let at = b.slot();
        b.kernel.domains.get_mut(at.domain).unwrap().capabilities.link_mut(at.slot).unwrap().prev = None;
    }),
    ("the derivation list is not linked both ways", |b| {
        let at = b.slot();
        b.kernel.domains.get_mut(at.domain).unwrap().capabilities.link_mut(at.slot).unwrap().prev = Some(at);
    }),
    ("a capability is not in the derivation list", |b| {
        let at = b.slot();
        let prev = b.kernel.link(at).unwrap().prev.unwrap();
        b.kernel.domains.get_mut(prev.domain).unwrap().capabilities.link_mut(prev.slot).unwrap().next = None;
    }),
    ("a capability is of another kind than its object", |b| {
        let id = b.object(|o| matches!(o, Object::Context(_) | Object::Image(_)));
        b.kernel.objects.get_mut(id).unwrap().object = Object::Domain(b.tenant);
    }),
    ("an object's references are not its capabilities", |b| {
        let id = b.object(|o| matches!(o, Object::Image(_)));
        b.kernel.objects.get_mut(id).unwrap().references += 1;
    }),
    ("an object's holds are not the objects that need it", |b| {
        let id = b.object(|o| matches!(o, Object::Image(_)));
        b.kernel.objects.get_mut(id).unwrap().holds += 1;
    }),
    ("an object is left that nothing names or needs", |b| _ = b.kernel.add_object(Object::Gone)),
    ("the regions' parts are not the machine", |b| b.region().qubits -= 1),
    ("the regions' parts are not the machine", |b| b.region().magic_buffer += 1),
    ("a region's interactive qubits are not the qubits there are", |b| b.region().take_interactive(QUBIT).unwrap()),
    ("a running strand is listed with other figures than its own", |b| b.region().running[0].load += 1),
    ("a strand is listed as waiting and does not wait", |b| {
        let running = b.region().running[0].id;
        b.region().waiting.push(running);
    }),
    ("a region's held qubits are not those of its strands and domains", |b| b.region().held.take(QUBIT).unwrap()),
    ("a region's running strands are out of order", |b| b.region().running.reverse()),
    ("a region has more magic states than its buffer", |b| b.region().magic_stock = u32::MAX),
    ("a region has more routes in use than it has", |b| b.region().routes_in_use += 100),
    ("routes in use are not those that will be released", |b| b.region().route_releases.push_back(1)),
    ("a region's reservations are not the rest of its strands' plans", |b| b.region().reservations[0].routes += 1),
    ("a strand's context is gone", |b| {
        let id = b.strand(StrandState::Waiting);
        b.kernel.objects.strand_mut(id).unwrap().context = ContextId::new(99);
    }),
    ("a strand is to go to a region that is gone", |b| {
        let id = b.strand(StrandState::Waiting);
        b.kernel.objects.strand_mut(id).unwrap().migrate_to = Some(RegionId::new(99));
    }),
    ("a strand is not where its state says", |b| _ = b.region().waiting.pop()),
    ("a strand waits to take a checkpoint that is not its own", |b| {
        let id = b.object(|o| matches!(o, Object::Checkpoint(_)));
        b.kernel.objects.checkpoint_mut(id).unwrap().target = CheckpointTarget::Qubits { version: 0, known: vec![] };
    }),
    ("a domain's account of strands and qubits is not what it holds", |b| b.domain().held.take(QUBIT).unwrap()),
    ("a domain's account of images is not their size", |b| b.domain().used.instructions -= 1),
    ("a domain's account of checkpoints is not their number", |b| b.domain().used.checkpoints += 1),
    ("a domain's account of channels is not their number", |b| b.domain().used.channels += 1),
    ("a domain holds more than its quota", |b| b.domain().quota.qubits = 1),
    ("an interactive space miscounts its qubits", |b| b.domain().interactive.as_mut().unwrap().live += 1),
    ("a register is named twice, or neither in use nor free", |b| {
        b.domain().interactive.as_mut().unwrap().free.push(0)
    }),
    ("a qubit's owner has no interactive space", |b| b.domain().interactive = None),
    ("a context's account is not its strands and their qubits", |b| {
        let id = b.context();
        b.kernel.contexts.get_mut(id).unwrap().held.take(Holding::STRAND).unwrap();
    }),
    ("a domain's own context is gone", |b| {
        let unused = b.kernel.contexts.insert(crate::sched::fair_queue::SchedContext::new(1, 1, 1));
        b.kernel.contexts.remove(unused).unwrap();
        let root = b.root;
        b.kernel.domains.get_mut(root).unwrap().context = unused;
    }),
    ("a budget's account is not what is done through it", |b| {
        let id = b.object(|o| matches!(o, Object::Machine(m) if m.budget.is_some()));
        b.kernel.objects.machine_mut(id).unwrap().held.give_back(QUBIT).unwrap();
    }),
    ("a budget is exceeded", |b| {
        let id = b.object(|o| matches!(o, Object::Machine(m) if m.budget.is_some()));
        b.kernel.objects.machine_mut(id).unwrap().magic = 1001;
    }),
    ("a channel's halves are not those of its state", |b| b.linked().state = ChannelState::Used),
    ("a channel's half does not name the channel", |b| {
        let end = *b.linked().end(Side::Offering);
        b.kernel.register_mut(end.domain, end.register.unwrap()).unwrap().channel = None;
    }),
    ("a channel's endpoint does not name the channel", |b| {
        let object = b.linked().end(Side::Offering).object.unwrap();
        if let Object::Endpoint { side, .. } = &mut b.kernel.objects.get_mut(object).unwrap().object {
            *side = Side::Accepting;
        }
    }),
    ("an endpoint names a channel that does not name it", |b| b.linked().end_mut(Side::Offering).object = None),
    ("a qubit names a channel that does not name it", |b| {
        let (id, _) = b.kernel.channels.iter().find(|(_, c)| c.state == ChannelState::Linked).unwrap();
        let root = b.root;
        let registers = &mut b.kernel.interactive_mut(root).unwrap().registers;
        registers.push(registers[0].clone());
        let free = registers.len() as u32 - 1;
        registers[free as usize].channel = Some((id, Side::Offering));
        b.kernel.interactive_mut(root).unwrap().free.push(free);
    }),
];

#[test]
fn the_audit_names_each_broken_invariant() {
    let mut missed = Vec::new();
    for (story, break_it) in CASES {
        let mut busy = Busy::new();
        break_it(&mut busy);
        let found = busy.kernel.audit().map_err(|b| b.story());
        if found != Err(*story) {
            missed.push((*story, found));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// More than a region's qubits can be held only if another account is wrong as well, so both are.
#[test]
fn the_audit_names_a_region_that_holds_more_than_it_has() {
    let mut busy = Busy::new();
    let id = busy.kernel.regions.iter().last().unwrap().0;
    let (running, held) = (core::mem::take(&mut busy.region().running), busy.region().held);
    assert!(held.qubits() > 2);
    let mut moved = Holding::default();
    for r in &running {
        let strand = busy.kernel.objects.strand_mut(r.id).unwrap();
        strand.region = id;
        moved.take(strand.holding()).unwrap();
    }
    busy.region().held.give_back(moved).unwrap();
    busy.region().reservations.clear();
    busy.region().route_releases.clear();
    busy.region().routes_in_use = 0;
    let other = busy.kernel.regions.get_mut(id).unwrap();
    other.running = running;
    other.held.take(moved).unwrap();
    assert_eq!(busy.kernel.audit().map_err(|b| b.story()), Err("a region holds more qubits than it has"));
}

#[test]
fn a_broken_kernel_answers_every_call_with_the_story_and_passes_no_epoch() {
    let mut busy = Busy::new();
    busy.kernel.stop(std::string::ToString::to_string(&Broken::found("a test broke it", Some(7))));
    let before = busy.kernel.epoch();
    let story = KernelError::Broken("a test broke it (7)".into());
    for caller in [busy.root, busy.tenant] {
        assert_eq!(busy.kernel.syscall(caller, Syscall::Usage), Err(story.clone()));
    }
    let report = busy.kernel.advance_by(10);
    assert!(report.broken && !report.busy && report.issued == 0);
    assert_eq!((busy.kernel.epoch(), busy.kernel.broken()), (before, Some("a test broke it (7)")));
    // The first story stays.
    busy.kernel.stop("another".into());
    assert_eq!(busy.kernel.syscall(busy.root, Syscall::Usage), Err(story));
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "the number of a strand names none"))]
fn an_impossible_case_stops_the_kernel() {
    let mut busy = Busy::new();
    let machine = busy.kernel.capabilities(busy.root).into_iter().find(|c| c.1 == ObjectKind::Machine).unwrap().0;
    // The strand's object is taken away from under its region.
    let running = busy.region().running[0].id;
    busy.kernel.objects.get_mut(running.object()).unwrap().object = Object::Gone;
    let report = busy.kernel.advance();
    assert!(report.broken);
    let inspect = Syscall::Inspect { target: machine };
    assert!(matches!(busy.kernel.syscall(busy.root, inspect), Err(KernelError::Broken(_))));
}
