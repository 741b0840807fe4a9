//! System calls of the root and three tenants: one may do everything, one has small quotas, one neither magic nor the
//! right to pass anything on, and a budget.
//!
//! A script is a [`Setup`] and a list of [`Step`]s, which proptest draws and shrinks. A step says who does what; its
//! handles and numbers follow from its seed and from what there is when it runs. Most steps are drawn again until the
//! model allows them, since chance hardly ever meets what is allowed; some name handles of others, or such as were
//! freed long ago.

use crate::model::{Model, Verdict};
use crate::rng::Rng;
use crate::strategies::{any_image, valid_image};
use proptest::prelude::*;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Image, Op, Pauli};
use qmk_kernel::abi::syscall::{Budget, Code, ObjectKind, Patch, Quota, Run};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{Clock, DomainId};

/// Qubits of a machine that scripts are made for. A larger one works too, but quotas are met before it is full.
pub const QUBITS: u32 = 16;

/// What a step of a script does. Which handles and numbers it takes, the seed and what is there tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Advance,
    CreateDomain,
    CreateContext,
    CreateRegion,
    Derive,
    Revoke,
    Delete,
    Inspect,
    Admit,
    Spawn,
    Status,
    Outcomes,
    Pause,
    Migrate,
    Rollback,
    Checkpoint,
    CheckpointStatus,
    Restore,
    TakeQubit,
    FreeQubit,
    Apply,
    Offer,
    Accept,
    Teleport,
    Swap,
    Close,
    ChannelStatus,
    Usage,
}

const WEIGHTS: [(u32, Action); 28] = [
    (16, Action::Advance),
    (1, Action::CreateDomain),
    (2, Action::CreateContext),
    (3, Action::CreateRegion),
    (12, Action::Derive),
    (1, Action::Revoke),
    (2, Action::Delete),
    (1, Action::Inspect),
    (10, Action::Admit),
    (16, Action::Spawn),
    (2, Action::Status),
    (3, Action::Outcomes),
    (6, Action::Pause),
    (8, Action::Migrate),
    (6, Action::Rollback),
    (8, Action::Checkpoint),
    (3, Action::CheckpointStatus),
    (5, Action::Restore),
    (12, Action::TakeQubit),
    (3, Action::FreeQubit),
    (14, Action::Apply),
    (12, Action::Offer),
    (20, Action::Accept),
    (6, Action::Teleport),
    (16, Action::Swap),
    (1, Action::Close),
    (2, Action::ChannelStatus),
    (1, Action::Usage),
];

/// A step of a script.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    who: usize,
    action: Action,
    seed: u64,
}

/// Steps of all kinds, those that rarely succeed more often.
pub fn step() -> impl Strategy<Value = Step> {
    let action = proptest::strategy::Union::new_weighted(WEIGHTS.map(|(w, action)| (w, Just(action))).to_vec());
    (0..4usize, action, any::<u64>()).prop_map(|(who, action, seed)| Step { who, action, seed })
}

/// Quota of the root and of two tenants.
pub const LARGE: Quota =
    Quota { qubits: 8, strands: 8, instructions: 1000, slots: 1000, active: 24, ..Quota::UNLIMITED };
const SMALL: Quota = Quota {
    qubits: 3,
    physical_qubits: 450,
    strands: 2,
    instructions: 60,
    slots: 9,
    channels: 1,
    checkpoints: 1,
    magic: 40,
    epochs: 25,
    window: 30,
    weight: 2,
    ..LARGE
};

/// A world to boot.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Clock of the kernel.
    pub clock: Clock,
    /// Whether tenants may offer channels to each other.
    pub offers: bool,
    /// Patches decoded in an epoch, where the device can be told.
    pub decoded: Option<u32>,
    /// Programs that the tenants admit, some of them wrong.
    pub images: Vec<Image>,
}

/// Worlds of all kinds.
pub fn setup() -> impl Strategy<Value = Setup> {
    let clock = prop_oneof![Just(Clock::Lockstep), (1..5000u64).prop_map(|pace| Clock::FreeRunning { pace })];
    let image = prop_oneof![1 => any_image(), 5 => valid_image()];
    let decoded = prop_oneof![3 => Just(None), 1 => (8..QUBITS).prop_map(Some)];
    (clock, prop::bool::weighted(0.7), decoded, proptest::collection::vec(image, 5))
        .prop_map(|(clock, offers, decoded, images)| Setup { clock, offers, decoded, images })
}

/// A kernel that is compared with its model at each step.
#[derive(Debug)]
pub struct World<D> {
    /// The kernel, and what it should be.
    pub model: Model<D>,
    /// The root, and three tenants.
    pub domains: Vec<DomainId>,
    images: Vec<Image>,
}

/// The tenants are those of the module's first sentence.
fn boot<D: Device>(device: D, setup: &Setup) -> World<D> {
    let (mut model, root, machine) = Model::boot_on(device, LARGE);
    model.kernel.set_clock(setup.clock);
    let mut domains = vec![root];
    let mut controls = Vec::new();
    let plain = Rights::all() - Rights::ADMIN;
    for (quota, rights) in [(LARGE, Rights::all()), (SMALL, plain), (LARGE, plain - Rights::MAGIC - Rights::GRANT)] {
        let control = model.call(root, Syscall::CreateDomain { machine, quota }).expect("root may");
        domains.push(model.kernel.domain_of(root, control).expect("it was just made"));
        controls.push(control);
        let budget = (domains.len() == 4).then_some(Budget { strands: 3, qubits: 6, magic: 0 });
        let derive = Syscall::Derive { source: machine, rights, badge: 7, into: Some(control), budget };
        model.call(root, derive).expect("root may");
    }
    // Tenants hold a qubit of the root, which must not meet their own.
    let qubit = model.call(root, Syscall::TakeQubit { machine }).expect("root may");
    for control in controls.iter().copied() {
        give(&mut model, root, qubit, Rights::OBJECT, control);
    }
    for (from, &into) in controls.iter().enumerate().filter(|_| setup.offers) {
        for (_, &to) in controls.iter().enumerate().filter(|(to, _)| *to != from) {
            give(&mut model, root, to, Rights::OFFER, into);
        }
    }
    // Channels take qubits, and strands that move a region.
    for &d in domains.iter().skip(1).filter(|_| setup.offers) {
        let machine = model.held(d)[0];
        (0..2).for_each(|_| _ = model.call(d, Syscall::TakeQubit { machine }));
    }
    let region = Syscall::CreateRegion { machine, qubits: 4, routes: 1, magic: 1 };
    let region = model.call(root, region).expect("root may");
    give(&mut model, root, region, Rights::USE, controls[0]);
    World { model, domains, images: setup.images.clone() }
}

fn draw_context(machine: Handle, dice: &mut Rng) -> Syscall {
    let (weight, window) = (1 + number(dice, 3), number(dice, 40) as u64);
    let epochs = if window == 0 { u64::MAX } else { 1 + number(dice, 40) as u64 };
    Syscall::CreateContext { machine, weight, epochs, window }
}

fn number(dice: &mut Rng, n: usize) -> u32 {
    dice.below(n) as u32
}

/// Derives a capability of the root's into a tenant's space.
///
/// # Panics
/// If the kernel refuses.
pub fn give<D: Device>(model: &mut Model<D>, root: DomainId, source: Handle, rights: Rights, into: Handle) -> Handle {
    let derive = Syscall::Derive { source, rights, badge: 7, into: Some(into), budget: None };
    model.call(root, derive).expect("root may")
}

const NOTHING: Handle = Handle { slot: 0, generation: 0 };

impl<D: Device> World<D> {
    /// Boots a kernel on a device of at least [`QUBITS`] qubits.
    ///
    /// # Panics
    /// If the kernel does not do what the model expects.
    pub fn boot(device: D, setup: &Setup) -> Self {
        boot(device, setup)
    }

    /// A handle, mostly one that the caller holds for an object of this kind.
    fn handle(&self, me: DomainId, dice: &mut Rng, kind: ObjectKind) -> Handle {
        let model = &self.model;
        let any = |list: Vec<Handle>, dice: &mut Rng| if list.is_empty() { NOTHING } else { dice.pick(&list) };
        match dice.below(24) {
            0 => any(model.held(me), dice),
            1 => any(self.domains.iter().filter(|d| **d != me).flat_map(|d| model.held(*d)).collect(), dice),
            2 => any(model.freed(), dice),
            3 => Handle { slot: dice.below(20) as u32, generation: dice.below(4) as u32 },
            n => {
                let all = model.kernel.capabilities(me).into_iter().filter(|(_, k, _)| *k == kind).map(|(h, ..)| h);
                let all: Vec<Handle> = all.collect();
                // Mostly the domain's first machine: it has the most rights.
                if kind == ObjectKind::Machine && n > 8 && !all.is_empty() { all[0] } else { any(all, dice) }
            }
        }
    }

    fn draw(&mut self, me: DomainId, action: Action, dice: &mut Rng) -> Syscall {
        use ObjectKind as K;
        let machine = self.handle(me, dice, K::Machine);
        let strand = self.handle(me, dice, K::Strand);
        let qubit = self.handle(me, dice, K::Qubit);
        let endpoint = self.handle(me, dice, K::Endpoint);
        let checkpoint = self.handle(me, dice, K::Checkpoint);
        let held = self.model.held(me);
        let own = |dice: &mut Rng| match dice.below(8) {
            1 | 2 => strand,
            // What a domain has been given is seldom lost, or little happens.
            0 | 1.. if held.is_empty() => machine,
            0 => dice.pick(&held),
            _ => held[held.len() - 1 - dice.below(held.len().div_ceil(2))],
        };
        match action {
            Action::Advance => unreachable!("not a call"),
            Action::CreateDomain => Syscall::CreateDomain { machine, quota: dice.pick(&[LARGE, SMALL]) },
            Action::CreateContext => draw_context(machine, dice),
            Action::CreateRegion => Syscall::CreateRegion {
                machine,
                qubits: number(dice, 6),
                routes: number(dice, 3),
                magic: number(dice, 3),
            },
            Action::Derive => self.draw_derive(me, dice),
            Action::Revoke => Syscall::Revoke { target: own(dice) },
            Action::Delete => Syscall::Delete { target: own(dice) },
            Action::Inspect => Syscall::Inspect { target: own(dice) },
            Action::Admit => Syscall::Admit { machine, image: dice.pick(&self.images) },
            Action::Spawn => self.draw_spawn(me, machine, dice),
            Action::Status => Syscall::Status { strand },
            Action::Outcomes => Syscall::Outcomes { strand, first: number(dice, 3) as u64, count: 3 },
            Action::Pause => Syscall::Pause { strand, paused: !dice.one_in(3) },
            Action::Migrate => Syscall::Migrate { strand, region: self.maybe(me, dice, K::Region) },
            Action::Rollback => Syscall::Rollback { machine, strand: self.maybe(me, dice, K::Strand) },
            Action::Checkpoint => Syscall::Checkpoint { machine, strand: self.maybe(me, dice, K::Strand) },
            Action::CheckpointStatus => Syscall::CheckpointStatus { checkpoint },
            Action::Restore => Syscall::Restore { checkpoint },
            Action::TakeQubit => Syscall::TakeQubit { machine },
            Action::FreeQubit => Syscall::FreeQubit { qubit, uncompute: dice.one_in(2).then_some(machine) },
            Action::Apply => self.draw_apply(me, machine, dice),
            Action::Offer => {
                let fidelity = dice.pick(&[0.9, 0.9, 0.95, 0.96, 0.99, 1.0, 0.2, f64::NAN]);
                Syscall::Offer { machine, qubit, to: self.handle(me, dice, K::Domain), fidelity }
            }
            Action::Accept => Syscall::Accept { machine, endpoint, qubit },
            Action::Teleport => Syscall::Teleport { machine, endpoint, qubit },
            Action::Swap => {
                let endpoints = [endpoint, self.handle(me, dice, K::Endpoint)];
                Syscall::SwapEntanglement { machine, endpoints }
            }
            Action::Close => Syscall::CloseChannel { endpoint },
            Action::ChannelStatus => Syscall::ChannelStatus { endpoint },
            Action::Usage => Syscall::Usage,
        }
    }

    /// A handle of this kind or none.
    fn maybe(&self, me: DomainId, dice: &mut Rng, kind: ObjectKind) -> Option<Handle> {
        dice.one_in(2).then(|| self.handle(me, dice, kind))
    }

    fn draw_derive(&mut self, me: DomainId, dice: &mut Rng) -> Syscall {
        use ObjectKind as K;
        let kinds = [K::Machine, K::Machine, K::Domain, K::Image, K::Strand, K::Qubit, K::Context];
        let kinds = [&kinds[..], &[K::Region, K::Region, K::Endpoint, K::Checkpoint]].concat();
        let kind = dice.pick(&kinds);
        let source = self.handle(me, dice, kind);
        // Half of the time exactly what is held and half of the time a random subset of it, sometimes more.
        let held = match self.model.kernel.syscall(me, Syscall::Inspect { target: source }) {
            Ok(Reply::Capability { rights, .. }) => rights,
            _ => Rights::all(),
        };
        let bits = dice.below(1 << 32) as u32;
        let rights = match dice.below(8) {
            0..=3 => held,
            4..=6 => held & Rights::from_bits_truncate(bits),
            _ => Rights::from_bits_truncate(bits),
        };
        let wanted = kind == K::Machine && dice.one_in(2) || dice.one_in(20);
        let budget = wanted.then(|| Budget {
            strands: number(dice, 4),
            qubits: number(dice, 8),
            magic: number(dice, 60) as u64,
        });
        let into = self.maybe(me, dice, K::Domain);
        Syscall::Derive { source, rights, badge: number(dice, 3) as u64, into, budget }
    }

    fn draw_spawn(&self, me: DomainId, machine: Handle, dice: &mut Rng) -> Syscall {
        let image = self.handle(me, dice, ObjectKind::Image);
        // So many that no device takes them; those of a program without events cost it nothing to take.
        let endless = dice.one_in(20) && self.model.image(me, image).is_some_and(|i| i.events > 0);
        let shots = if endless { 1 << 40 } else { number(dice, 5) as u64 };
        let deadline = dice.one_in(3).then(|| match dice.below(4) {
            0 => u64::MAX,
            _ => number(dice, 150) as u64 * shots.max(1),
        });
        let codes = [Code::Surface, Code::BaconShor, Code::Shyps, Code::Floquet];
        let patch = Patch { code: dice.pick(&codes), distance: dice.pick(&[3, 3, 5, 8, 9]) };
        let run = Run {
            shots,
            seed: dice.below(1 << 20) as u64,
            priority: dice.pick(&[0, 0, 1, -1]),
            deadline,
            context: self.maybe(me, dice, ObjectKind::Context),
            region: self.maybe(me, dice, ObjectKind::Region),
            patch: if dice.one_in(3) { patch } else { Patch::default() },
            noise: Default::default(),
        };
        Syscall::Spawn { machine, image, run }
    }

    fn draw_apply(&self, me: DomainId, machine: Handle, dice: &mut Rng) -> Syscall {
        let pauli = dice.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
        let ops = [
            Op::Clifford1(Clifford1::H, 0),
            Op::Clifford2(Clifford2::Cnot, 0, 1),
            Op::Clifford2(Clifford2::Cnot, 1, 0),
            Op::Clifford2(Clifford2::Cz, 0, 1),
            Op::Pauli(pauli, 0),
            Op::T(0),
            Op::T(1),
            Op::Reset(0),
            Op::InjectT(0),
            Op::TeleportCnot(0, 1),
            Op::Rotate(pauli, 0, dice.pick(&[0.3, 0.3, f64::NAN])),
            Op::Toffoli(0, 1, 2),
            Op::Measure(pauli, 0, 5),
            Op::MeasureBell(0, 1, 0, 0),
            Op::MeasureAngle(0.4, 0, 0),
            Op::Alloc(0),
            Op::Free(0),
            Op::Fence,
        ];
        let op = dice.pick(&ops);
        Syscall::Apply { machine, op, qubits: (0..3).map(|_| self.handle(me, dice, ObjectKind::Qubit)).collect() }
    }

    /// Performs a step on the kernel and on the model, and checks what must hold.
    ///
    /// # Panics
    /// If they do not agree, or a promise is broken.
    pub fn run(&mut self, step: Step) {
        let mut dice = Rng::new(step.seed);
        if step.action == Action::Advance {
            for _ in 0..dice.below(12) {
                self.model.kernel.advance();
                self.model.check();
            }
            return;
        }
        let me = self.domains[step.who];
        // Chance hardly ever meets what is allowed, so mostly the first of a few calls that is.
        let chance = if step.action == Action::Apply { 2 } else { 8 };
        let tries = if dice.one_in(chance) { 1 } else { 30 };
        let mut call = self.draw(me, step.action, &mut dice);
        for _ in 1..tries {
            if self.model.allows(me, &call) != Verdict::Never {
                break;
            }
            call = self.draw(me, step.action, &mut dice);
        }
        self.model.call(me, call);
        self.model.check();
        self.model.kernel.audit().expect("the kernel's own account");
    }

    /// Takes back all that strands may wait for, and advances until all have ended.
    ///
    /// # Panics
    /// If one does not end.
    pub fn settle(&mut self) {
        let all = |model: &Model<D>, d, kind| {
            let all = model.kernel.capabilities(d).into_iter();
            all.filter(|(_, k, _)| *k == kind).map(|(h, ..)| h).collect::<Vec<_>>()
        };
        for kind in [ObjectKind::Qubit, ObjectKind::Region] {
            for d in self.domains.clone() {
                for target in all(&self.model, d, kind) {
                    self.model.call(d, Syscall::Delete { target });
                }
            }
        }
        for d in self.domains.clone() {
            for strand in all(&self.model, d, ObjectKind::Strand) {
                self.model.call(d, Syscall::Pause { strand, paused: false });
            }
        }
        self.model.check();
        let epochs = (0..20_000).take_while(|_| self.model.kernel.advance().busy).count();
        assert!(epochs < 20_000, "a strand never ends");
        self.model.check();
    }

    /// Lets strands end and deletes all that the root holds; nothing is left then. Returns the kernel's model.
    ///
    /// # Panics
    /// If something is left.
    pub fn end(mut self) -> Model<D> {
        self.settle();
        let (mut model, root) = (self.model, self.domains[0]);
        for target in model.held(root) {
            model.call(root, Syscall::Delete { target });
            model.check();
        }
        model.check_stale();
        assert_eq!(model.kernel.free_qubits(), model.kernel.device().spec().logical_qubits, "qubits are missing");
        model
    }
}
