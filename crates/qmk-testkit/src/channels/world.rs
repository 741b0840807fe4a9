//! A kernel beside its model: steps on both, and what must hold after each.

use super::model::{Cap, Channel, Model, Tenant, Thing};
use crate::pairs::Pairs;
use qmk_kernel::Kernel;
use qmk_kernel::abi::syscall::{ChannelState, ObjectKind, Quota};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;
use std::collections::{BTreeMap, BTreeSet};

/// A call, or an epoch of the machine.
#[derive(Clone, Debug)]
pub enum Step {
    /// A call of a domain.
    Call(usize, Syscall),
    /// An epoch.
    Epoch,
}

/// A kernel, which may be replaced by one in the same state, and what it should be.
#[derive(Debug)]
pub struct World {
    /// The kernel.
    pub kernel: Kernel<Pairs>,
    /// What it should be.
    pub model: Model,
}

impl World {
    /// A root with some slots, and tenants.
    pub fn boot(qubits: u32, root: Quota, tenants: &[Quota]) -> (World, Handle, Vec<Handle>) {
        let (mut kernel, id, machine) = Kernel::boot(Pairs::new(qubits), 0, root);
        let mut model = Model {
            free: qubits,
            tenants: Vec::new(),
            caps: BTreeMap::new(),
            stale: BTreeSet::new(),
            qubits: Vec::new(),
            ends: Vec::new(),
            channels: Vec::new(),
            expected: Vec::new(),
        };
        let tenant = |id, quota| Tenant { id, quota, alive: true, channels: 0, qubits: 0, pairs: 0 };
        model.tenants.push(tenant(id, root));
        model.add(0, machine, Cap { thing: Thing::Machine, rights: Rights::all(), parent: None });
        let mut controls = Vec::new();
        for &quota in tenants {
            let reply = kernel.syscall(id, Syscall::CreateDomain { machine, quota });
            let Ok(Reply::Handle(control)) = reply else { panic!("{reply:?}") };
            let d = model.tenants.len();
            model.tenants.push(tenant(kernel.domain_of(id, control).expect("a domain"), quota));
            let parent = Some((0, machine));
            model.add(0, control, Cap { thing: Thing::Domain(d), rights: Rights::OBJECT, parent });
            controls.push(control);
        }
        (World { kernel, model }, machine, controls)
    }

    /// A step that is allowed, without a look at what it does.
    pub fn replay(&mut self, step: &Step) {
        match step {
            Step::Epoch => _ = self.kernel.advance(),
            Step::Call(d, call) => _ = self.kernel.syscall(self.model.tenants[*d].id, call.clone()),
        }
    }

    /// Makes a call that is refused.
    pub fn refused(&mut self, d: usize, call: &Syscall) -> KernelError {
        match self.kernel.syscall(self.model.tenants[d].id, call.clone()) {
            Err(e) => e,
            Ok(reply) => panic!("{d} {call:?} is refused by the model, the kernel replied {reply:?}"),
        }
    }

    /// Does what is allowed. The device is told just what it takes.
    pub fn step(&mut self, step: &Step) -> Option<Reply> {
        let from = self.kernel.device().log.len();
        self.model.expected.clear();
        let reply = match step {
            Step::Epoch => {
                self.kernel.advance();
                let linked = self.model.channels.iter_mut().filter(|c| c.state == ChannelState::Linked);
                linked.for_each(|c| c.ready = true);
                None
            }
            Step::Call(d, call) => {
                let reply = self.kernel.syscall(self.model.tenants[*d].id, call.clone());
                let reply =
                    reply.unwrap_or_else(|e| panic!("{d} {call:?} is allowed by the model, the kernel says {e}"));
                let log = &self.kernel.device().log[from..];
                self.model.effect(*d, call, &reply, log);
                Some(reply)
            }
        };
        let mut told: Vec<String> = self.kernel.device().log[from..].iter().map(|e| format!("{e:?}")).collect();
        told.sort();
        self.model.expected.sort();
        assert_eq!(told, self.model.expected, "{step:?}");
        reply
    }

    /// Kernel, model and device agree, and promises are kept.
    pub fn check(&mut self) {
        let kernel = &mut self.kernel;
        let model = &self.model;
        for (d, t) in model.tenants.iter().enumerate() {
            let kind = |thing| match thing {
                Thing::Machine => ObjectKind::Machine,
                Thing::Domain(_) => ObjectKind::Domain,
                Thing::Qubit(_) => ObjectKind::Qubit,
                Thing::End(_) => ObjectKind::Endpoint,
            };
            let held: Vec<_> = model.held(d).map(|(h, c)| (h, kind(c.thing), c.rights)).collect();
            assert_eq!(kernel.capabilities(t.id), held, "domain {d}");
            let open: Vec<&Channel> = model.channels.iter().filter(|c| c.state != ChannelState::Closed).collect();
            let ends = open.iter().filter(|c| c.domains.contains(&d)).count();
            assert_eq!(t.channels as usize, ends, "channels of {d}");
            match kernel.syscall(t.id, Syscall::Usage) {
                Ok(Reply::Usage { used, quota }) => {
                    let counts = (used.channels, used.qubits, used.total_pairs, used.slots as usize);
                    assert_eq!(counts, (t.channels, t.qubits, t.pairs, held.len()), "domain {d}");
                    assert!(
                        used.channels <= quota.channels && used.qubits <= quota.qubits && used.slots <= quota.slots
                    );
                }
                reply => assert!(!t.alive, "{reply:?}"),
            }
            for (endpoint, cap) in model.held(d).filter(|(_, c)| c.rights.contains(Rights::READ)) {
                let Thing::End(e) = cap.thing else { continue };
                let reply = kernel.syscall(t.id, Syscall::ChannelStatus { endpoint });
                let Ok(Reply::Channel(info)) = reply else { panic!("{reply:?}") };
                let channel = &model.channels[model.ends[e].0];
                assert_eq!(info.state, channel.state, "of {channel:?}");
                let linked = channel.state == ChannelState::Linked;
                assert!(!linked || (info.ready_at <= kernel.epoch()) == channel.ready && info.pairs == channel.pairs);
            }
        }
        assert_eq!(kernel.free_qubits(), model.free);
        let device = kernel.device();
        let named = |thing: Thing| model.caps.values().any(|c| c.thing == thing);
        let live = |q: usize| named(Thing::Qubit(q));
        let mut spaces: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
        for (_, q) in model.qubits.iter().enumerate().filter(|(q, _)| live(*q)) {
            assert!(spaces.entry(q.place.0).or_default().insert(q.place.1), "two qubits in one register");
        }
        assert_eq!(device.spaces, spaces);
        // What is entangled is the two halves of a channel that both sides agreed to.
        let mut groups = BTreeSet::new();
        let mut halves = BTreeSet::new();
        for (c, channel) in model.channels.iter().enumerate() {
            let taken: Vec<usize> = channel.halves.iter().flatten().copied().collect();
            for &q in &taken {
                assert!(halves.insert(q) && live(q) && model.qubits[q].channel == Some(c), "{channel:?}");
            }
            let open = matches!(channel.state, ChannelState::Offered | ChannelState::Linked);
            assert_eq!(open, !taken.is_empty());
            if channel.state == ChannelState::Linked {
                assert_eq!(taken.iter().map(|&q| model.qubits[q].owner).collect::<Vec<_>>(), channel.domains);
                assert!(channel.ends.iter().all(|&e| named(Thing::End(e))), "{channel:?}");
                groups.insert(taken.iter().map(|&q| model.qubits[q].place).collect());
            }
        }
        assert_eq!(device.groups, groups);
        assert_eq!(model.qubits.iter().filter(|q| q.channel.is_some()).count(), halves.len());
    }

    /// The root takes everything back: all qubits are free, and all spaces closed.
    pub fn take_back(&mut self) {
        let machine = self.model.held(0).find(|(_, c)| c.thing == Thing::Machine);
        let Some((target, _)) = machine else { return };
        self.step(&Step::Call(0, Syscall::Revoke { target }));
        self.check();
        self.check_conserved();
        let device = self.kernel.device();
        assert!(self.kernel.free_qubits() == device.spec().logical_qubits && device.spaces.is_empty());
        assert!(self.model.caps.len() == 1 && self.model.tenants.iter().all(|t| t.channels == 0));
    }

    /// Nothing is kept that nothing names, which no call tells.
    pub fn check_conserved(&self) {
        self.kernel.audit().unwrap();
        let mut things: Vec<Thing> = Vec::new();
        self.model.caps.values().for_each(|c| {
            if !things.contains(&c.thing) {
                things.push(c.thing);
            }
        });
        // The machine is held by its qubits.
        let machine_is_held = !things.contains(&Thing::Machine) && things.iter().any(|t| matches!(t, Thing::Qubit(_)));
        let stats = self.kernel.stats();
        assert_eq!(stats.objects as usize, things.len() + machine_is_held as usize);
        let alive = self.model.tenants.iter().filter(|t| t.alive).count();
        assert_eq!(stats.domains as usize, alive);
    }
}
