//! Channels between tenants, told independently of the kernel: a derivation tree with parent pointers, and the rules of
//! each call.

use crate::pairs::{Event, Pairs};
use qmk_kernel::abi::image::{Op, Pauli};
use qmk_kernel::abi::syscall::{ChannelState, ObjectKind, Quota};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::{Device, Place};
use qmk_kernel::{DomainId, Kernel};
use std::collections::{BTreeMap, BTreeSet};

/// A capability's place.
type Key = (usize, Handle);

/// What a capability is for: the number is that of a domain, qubit or endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The machine.
    Machine,
    /// A domain.
    Domain(usize),
    /// A qubit.
    Qubit(usize),
    /// An endpoint.
    End(usize),
}

/// A capability.
#[derive(Clone, Copy, Debug)]
pub struct Cap {
    /// What it names.
    pub thing: Thing,
    /// Its rights.
    pub rights: Rights,
    parent: Option<Key>,
}

#[derive(Clone, Debug)]
struct Qubit {
    owner: usize,
    place: Place,
    channel: Option<usize>,
    /// Neither measured nor known.
    dirty: bool,
}

#[derive(Clone, Debug)]
struct Channel {
    state: ChannelState,
    ready: bool,
    domains: [usize; 2],
    halves: [Option<usize>; 2],
    ends: [usize; 2],
    pairs: u64,
}

#[derive(Clone, Debug)]
struct Tenant {
    id: DomainId,
    quota: Quota,
    alive: bool,
    channels: u32,
    qubits: u32,
    pairs: u64,
}

/// The state of everything that has to do with channels.
#[derive(Clone, Debug)]
pub struct Model {
    free: u32,
    tenants: Vec<Tenant>,
    caps: BTreeMap<Key, Cap>,
    stale: BTreeSet<Key>,
    qubits: Vec<Qubit>,
    /// Channel and side.
    ends: Vec<(usize, usize)>,
    channels: Vec<Channel>,
    expected: Vec<String>,
}

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

const LINK: Rights = Rights::USE.union(Rights::LINK);

impl Model {
    fn cap(&self, d: usize, handle: Handle, need: Rights) -> Option<Thing> {
        self.caps.get(&(d, handle)).filter(|c| c.rights.contains(need)).map(|c| c.thing)
    }

    fn is_machine(&self, d: usize, handle: Handle, need: Rights) -> bool {
        self.cap(d, handle, need) == Some(Thing::Machine)
    }

    /// A qubit of the domain's own that is in no channel.
    fn loose(&self, d: usize, handle: Handle) -> Option<usize> {
        match self.cap(d, handle, Rights::USE) {
            Some(Thing::Qubit(q)) if self.qubits[q].owner == d && self.qubits[q].channel.is_none() => Some(q),
            _ => None,
        }
    }

    fn end(&self, d: usize, handle: Handle, need: Rights) -> Option<(usize, usize)> {
        match self.cap(d, handle, need) {
            Some(Thing::End(e)) => Some(self.ends[e]),
            _ => None,
        }
    }

    /// The channel and side of an endpoint whose pair the domain can use now.
    fn pair(&self, d: usize, handle: Handle) -> Option<(usize, usize)> {
        let (c, side) = self.end(d, handle, Rights::USE)?;
        let channel = &self.channels[c];
        let usable = channel.state == ChannelState::Linked && channel.ready && channel.domains[side] == d;
        usable.then_some((c, side))
    }

    /// Capabilities that a domain holds.
    pub fn held(&self, d: usize) -> impl Iterator<Item = (Handle, Cap)> {
        self.caps.iter().filter(move |(k, _)| k.0 == d).map(|(k, c)| (k.1, *c))
    }

    /// Every handle that is valid in some space, and a few that are valid no more.
    pub fn handles(&self) -> BTreeSet<Handle> {
        self.caps.keys().chain(self.stale.iter().rev().take(3)).map(|k| k.1).collect()
    }

    /// Domains, the root among them.
    pub fn tenants(&self) -> usize {
        self.tenants.len()
    }

    fn has_slot(&self, d: usize) -> bool {
        (self.held(d).count() as u32) < self.tenants[d].quota.slots
    }

    /// Whether a call may succeed.
    pub fn allows(&self, d: usize, call: &Syscall) -> bool {
        if !self.tenants[d].alive {
            return false;
        }
        match *call {
            Syscall::Derive { source, rights, into, .. } => {
                let Some(cap) = self.caps.get(&(d, source)) else { return false };
                let target = match into {
                    None => d,
                    Some(into) => match self.cap(d, into, Rights::CONTROL) {
                        Some(Thing::Domain(t)) if cap.rights.contains(Rights::GRANT) => t,
                        _ => return false,
                    },
                };
                cap.rights.contains(rights) && self.has_slot(target)
            }
            Syscall::Revoke { target } | Syscall::Delete { target } => self.caps.contains_key(&(d, target)),
            Syscall::TakeQubit { machine } => {
                self.is_machine(d, machine, Rights::USE | Rights::ALLOC)
                    && self.has_slot(d)
                    && self.free > 0
                    && self.tenants[d].qubits < self.tenants[d].quota.qubits
            }
            Syscall::FreeQubit { qubit, .. } => match self.cap(d, qubit, Rights::CONTROL) {
                Some(Thing::Qubit(q)) => self.qubits[q].channel.is_none_or(|c| {
                    let channel = &self.channels[c];
                    channel.state == ChannelState::Offered || channel.ready
                }),
                _ => false,
            },
            Syscall::Offer { machine, qubit, to, .. } => {
                let Some(Thing::Domain(other)) = self.cap(d, to, Rights::OFFER) else { return false };
                let fits = |d: usize| self.has_slot(d) && self.tenants[d].channels < self.tenants[d].quota.channels;
                self.is_machine(d, machine, LINK)
                    && self.loose(d, qubit).is_some()
                    && other != d
                    && fits(d)
                    && fits(other)
            }
            Syscall::Accept { machine, endpoint, qubit } => {
                let invited = self.end(d, endpoint, Rights::USE).is_some_and(|(c, side)| {
                    let channel = &self.channels[c];
                    side == 1 && channel.domains[1] == d && channel.state == ChannelState::Offered
                });
                self.is_machine(d, machine, LINK) && invited && self.loose(d, qubit).is_some()
            }
            Syscall::Teleport { machine, endpoint, qubit } => {
                self.is_machine(d, machine, LINK | Rights::TELEPORT)
                    && self.pair(d, endpoint).is_some()
                    && self.loose(d, qubit).is_some()
            }
            Syscall::SwapEntanglement { machine, endpoints: [a, b] } => {
                let (Some((a, s)), Some((b, t))) = (self.pair(d, a), self.pair(d, b)) else { return false };
                self.is_machine(d, machine, LINK | Rights::TELEPORT)
                    && a != b
                    && self.channels[a].domains[1 - s] != self.channels[b].domains[1 - t]
            }
            Syscall::CloseChannel { endpoint } => self.end(d, endpoint, Rights::CONTROL).is_some(),
            Syscall::ChannelStatus { endpoint } => self.end(d, endpoint, Rights::READ).is_some(),
            ref other => unreachable!("{other:?}"),
        }
    }

    fn expect(&mut self, event: Event) {
        self.expected.push(format!("{event:?}"));
    }

    fn perform(&mut self, qubit: usize, op: impl Fn(u32) -> Op) {
        let (space, register) = self.qubits[qubit].place;
        self.expect(Event::Perform(space, op(register)));
    }

    fn reset(&mut self, qubit: usize) {
        self.perform(qubit, Op::Reset);
        self.qubits[qubit].dirty = false;
    }

    fn add(&mut self, d: usize, handle: Handle, cap: Cap) {
        assert!(!self.stale.contains(&(d, handle)), "{handle} was valid before");
        assert!(self.caps.insert((d, handle), cap).is_none(), "{handle} is valid already");
    }

    fn let_halves_go(&mut self, c: usize) -> Vec<usize> {
        let halves = std::mem::take(&mut self.channels[c].halves);
        let halves: Vec<usize> = halves.into_iter().flatten().collect();
        halves.iter().for_each(|&q| self.qubits[q].channel = None);
        halves
    }

    fn close(&mut self, c: usize) {
        let state = std::mem::replace(&mut self.channels[c].state, ChannelState::Closed);
        if state == ChannelState::Closed {
            return;
        }
        for d in self.channels[c].domains {
            self.tenants[d].channels -= 1;
        }
        for q in self.let_halves_go(c) {
            if state == ChannelState::Linked {
                self.reset(q);
            }
        }
    }

    /// Deletes capabilities with all that derive from them, and what no one names any more.
    fn delete(&mut self, roots: Vec<Key>) -> u32 {
        let mut count = 0;
        let mut left = roots;
        while let Some(key) = left.pop() {
            let Some(cap) = self.caps.remove(&key) else { continue };
            count += 1;
            self.stale.insert(key);
            left.extend(self.caps.iter().filter(|(_, c)| c.parent == Some(key)).map(|(k, _)| *k));
            if self.caps.values().any(|c| c.thing == cap.thing) {
                continue;
            }
            match cap.thing {
                Thing::Machine => {}
                Thing::Domain(d) => {
                    self.tenants[d].alive = false;
                    left.extend(self.caps.keys().filter(|k| k.0 == d));
                }
                Thing::Qubit(q) => {
                    if let Some(c) = self.qubits[q].channel {
                        self.close(c);
                    }
                    self.perform(q, Op::Free);
                    let Qubit { owner, place, .. } = self.qubits[q];
                    self.free += 1;
                    self.tenants[owner].qubits -= 1;
                    if self.tenants[owner].qubits == 0 {
                        self.expect(Event::Close(place.0));
                    }
                }
                Thing::End(e) => self.close(self.ends[e].0),
            }
        }
        count
    }

    /// What an allowed call does; `log` is what the device was told meanwhile.
    fn effect(&mut self, d: usize, call: &Syscall, reply: &Reply, log: &[Event]) {
        match (call, reply) {
            (&Syscall::Derive { source, rights, into, .. }, &Reply::Handle(handle)) => {
                let target = into.map_or(d, |into| self.domain(d, into));
                self.add(target, handle, Cap { thing: self.thing(d, source), rights, parent: Some((d, source)) });
            }
            (&Syscall::Revoke { target }, &Reply::Deleted { count, more }) => {
                let children =
                    self.caps.iter().filter(|(_, c)| c.parent == Some((d, target))).map(|(k, _)| *k).collect();
                assert_eq!((self.delete(children), false), (count, more));
            }
            (&Syscall::Delete { target }, &Reply::Deleted { count, more }) => {
                assert_eq!((self.delete(vec![(d, target)]), false), (count, more));
            }
            (&Syscall::TakeQubit { machine }, &Reply::Handle(handle)) => {
                let Some(&Event::Perform(space, Op::Alloc(register))) = log.last() else { panic!("{log:?}") };
                self.take_qubit(d, machine, handle, (space, register));
            }
            (&Syscall::FreeQubit { qubit, .. }, &Reply::Freed { dirty, undone }) => {
                let q = self.qubit(d, qubit);
                assert_eq!((self.qubits[q].dirty, 0), (dirty, undone));
                self.free_qubit(q);
            }
            (&Syscall::Offer { machine, qubit, to, .. }, &Reply::Offered { endpoint, invitation }) => {
                let (other, q) = (self.domain(d, to), self.qubit(d, qubit));
                self.offer([d, other], q, machine, [endpoint, invitation]);
            }
            (&Syscall::Accept { endpoint, qubit, .. }, Reply::Channel(info)) => {
                assert_eq!((info.state, info.fidelity, info.rounds, info.pairs), (ChannelState::Linked, 1.0, 0, 1));
                self.accept(self.place(d, endpoint).0, self.qubit(d, qubit));
            }
            (&Syscall::Teleport { endpoint, qubit, .. }, Reply::Applied { outcomes, .. }) => {
                self.teleport(self.place(d, endpoint), self.qubit(d, qubit), outcomes);
            }
            (&Syscall::SwapEntanglement { endpoints, .. }, Reply::Applied { outcomes, .. }) => {
                self.swap(d, endpoints.map(|e| self.place(d, e)), outcomes);
            }
            (&Syscall::CloseChannel { endpoint }, Reply::Done) => self.close(self.place(d, endpoint).0),
            (Syscall::ChannelStatus { .. }, Reply::Channel(_)) => {}
            (call, reply) => panic!("{call:?} was answered by {reply:?}"),
        }
    }

    /// What an allowed call names by a handle.
    fn thing(&self, d: usize, handle: Handle) -> Thing {
        self.caps[&(d, handle)].thing
    }

    fn domain(&self, d: usize, handle: Handle) -> usize {
        let Thing::Domain(domain) = self.thing(d, handle) else { panic!("{handle} is no domain") };
        domain
    }

    fn qubit(&self, d: usize, handle: Handle) -> usize {
        let Thing::Qubit(qubit) = self.thing(d, handle) else { panic!("{handle} is no qubit") };
        qubit
    }

    /// Channel and side of an endpoint.
    fn place(&self, d: usize, handle: Handle) -> (usize, usize) {
        let Thing::End(end) = self.thing(d, handle) else { panic!("{handle} is no endpoint") };
        self.ends[end]
    }

    fn take_qubit(&mut self, d: usize, machine: Handle, handle: Handle, place: Place) {
        let (space, register) = place;
        if self.tenants[d].qubits == 0 {
            self.expect(Event::Open(space));
        } else {
            assert!(self.qubits.iter().any(|q| q.owner == d && q.place.0 == space), "another's space");
        }
        self.expect(Event::Perform(space, Op::Alloc(register)));
        self.qubits.push(Qubit { owner: d, place, channel: None, dirty: false });
        let thing = Thing::Qubit(self.qubits.len() - 1);
        self.add(d, handle, Cap { thing, rights: Rights::OBJECT, parent: Some((d, machine)) });
        self.tenants[d].qubits += 1;
        self.free -= 1;
    }

    fn free_qubit(&mut self, q: usize) {
        if self.qubits[q].dirty {
            self.reset(q);
        }
        let all = self.caps.iter().filter(|(_, c)| c.thing == Thing::Qubit(q)).map(|(k, _)| *k).collect();
        self.delete(all);
    }

    fn offer(&mut self, domains: [usize; 2], q: usize, machine: Handle, [endpoint, invitation]: [Handle; 2]) {
        let (c, e) = (self.channels.len(), self.ends.len());
        self.ends.extend([(c, 0), (c, 1)]);
        self.channels.push(Channel {
            state: ChannelState::Offered,
            ready: false,
            domains,
            halves: [Some(q), None],
            ends: [e, e + 1],
            pairs: 0,
        });
        self.qubits[q].channel = Some(c);
        let [near, far] = domains;
        let cap = |e, rights, source| Cap { thing: Thing::End(e), rights, parent: Some((near, source)) };
        self.add(near, endpoint, cap(e, Rights::OBJECT, machine));
        self.add(far, invitation, cap(e + 1, Rights::OBJECT - Rights::GRANT, endpoint));
        domains.iter().for_each(|&d| self.tenants[d].channels += 1);
    }

    fn accept(&mut self, c: usize, q: usize) {
        let channel = &mut self.channels[c];
        channel.halves[1] = Some(q);
        (channel.state, channel.pairs) = (ChannelState::Linked, 1);
        let halves = channel.halves.map(|h| h.expect("both halves"));
        self.qubits[q].channel = Some(c);
        for half in halves {
            self.qubits[half].dirty = true;
            self.tenants[self.qubits[half].owner].pairs += 1;
        }
        let [a, b] = halves.map(|h| self.qubits[h].place);
        self.expect(Event::Link(a, b));
    }

    fn teleport(&mut self, (c, side): (usize, usize), q: usize, outcomes: &[bool]) {
        let [near, far] = [side, 1 - side].map(|s| self.channels[c].halves[s].expect("a pair"));
        self.bell(q, near, far, outcomes);
        self.let_halves_go(c);
        self.channels[c].state = ChannelState::Used;
    }

    fn swap(&mut self, d: usize, [(a, s), (b, t)]: [(usize, usize); 2], outcomes: &[bool]) {
        let half = |c: usize, side: usize| self.channels[c].halves[side].expect("a pair");
        let (near, other_near, far) = (half(a, s), half(b, t), half(b, 1 - t));
        self.bell(near, other_near, far, outcomes);
        let mine = [self.channels[a].ends[s], self.channels[b].ends[t]];
        let their = self.channels[b].ends[1 - t];
        // One channel between the far sides, and a closed one of which the caller has both ends.
        self.channels[a].domains[s] = self.channels[b].domains[1 - t];
        (self.channels[a].halves[s], self.channels[a].ends[s]) = (Some(far), their);
        self.channels[a].pairs += self.channels[b].pairs;
        let closed = ChannelState::Closed;
        self.channels[b] =
            Channel { state: closed, ready: true, domains: [d; 2], halves: [None; 2], ends: mine, pairs: 0 };
        self.ends[their] = (a, s);
        (self.ends[mine[0]], self.ends[mine[1]]) = ((b, 0), (b, 1));
        (self.qubits[near].channel, self.qubits[other_near].channel) = (None, None);
        self.qubits[far].channel = Some(a);
        self.tenants[d].channels -= 2;
    }

    /// A Bell measurement, which leaves both qubits in |0>, and the correction of a third.
    fn bell(&mut self, a: usize, b: usize, far: usize, outcomes: &[bool]) {
        let ((space, r), (other, s)) = (self.qubits[a].place, self.qubits[b].place);
        assert_eq!(space, other, "qubits of two spaces met in an operation");
        self.expect(Event::Perform(space, Op::MeasureBell(r, s, 0, 1)));
        self.reset(a);
        self.reset(b);
        let [z, x] = outcomes[..] else { panic!("{outcomes:?}") };
        for (flip, pauli) in [(x, Pauli::X), (z, Pauli::Z)] {
            if flip {
                self.perform(far, |q| Op::Pauli(pauli, q));
            }
        }
    }

    /// The state up to the names of handles and objects: the tree in a canonical order, then what its objects are.
    pub fn key(&self) -> Vec<u32> {
        let mut children: BTreeMap<Option<Key>, Vec<Key>> = BTreeMap::new();
        self.caps.iter().for_each(|(k, c)| children.entry(c.parent).or_default().push(*k));
        let mut order = Vec::new();
        self.order(None, 0, &children, &mut order);
        let mut key: Vec<u32> = self.tenants.iter().map(|t| t.alive as u32).collect();
        let mut numbers: [Vec<usize>; 3] = Default::default();
        let number = |list: &mut Vec<usize>, object: usize| {
            list.iter().position(|&o| o == object).unwrap_or_else(|| {
                list.push(object);
                list.len() - 1
            }) as u32
        };
        let [qubits, ends, channels] = &mut numbers;
        for (depth, k) in order {
            let cap = &self.caps[&k];
            let (kind, object) = match cap.thing {
                Thing::Machine => (0, 0),
                Thing::Domain(d) => (1, d as u32),
                Thing::Qubit(q) => (2, number(qubits, q)),
                Thing::End(e) => (3, number(ends, e)),
            };
            key.extend([depth, k.0 as u32, kind, cap.rights.bits(), object]);
        }
        for &e in ends.iter() {
            let (c, side) = self.ends[e];
            key.extend([number(channels, c), side as u32]);
        }
        for &c in channels.iter() {
            let c = &self.channels[c];
            key.extend([c.state as u32, c.ready as u32, c.domains[0] as u32, c.domains[1] as u32]);
            key.extend(c.halves.iter().map(|h| h.map_or(u32::MAX, |q| number(qubits, q))));
        }
        key
    }

    /// What of a capability does not depend on names, with its descendants.
    fn label(&self, key: Key, children: &BTreeMap<Option<Key>, Vec<Key>>) -> Vec<u32> {
        let cap = &self.caps[&key];
        let about = |c: usize| {
            let c = &self.channels[c];
            1 + c.state as u32 * 8 + c.ready as u32 * 4 + c.halves.iter().flatten().count() as u32
        };
        let what = match cap.thing {
            Thing::Machine => [0, 0, 0],
            Thing::Domain(d) => [1, d as u32, 0],
            Thing::Qubit(q) => [2, self.qubits[q].owner as u32, self.qubits[q].channel.map_or(0, about)],
            Thing::End(e) => [3, self.ends[e].1 as u32, about(self.ends[e].0)],
        };
        let mut label = vec![key.0 as u32, cap.rights.bits()];
        label.extend(what);
        let below = children.get(&Some(key)).into_iter().flatten();
        let mut below: Vec<Vec<u32>> = below.map(|k| self.label(*k, children)).collect();
        below.sort();
        below.into_iter().for_each(|b| label.extend(b));
        label.push(u32::MAX);
        label
    }

    fn order(
        &self,
        at: Option<Key>,
        depth: u32,
        children: &BTreeMap<Option<Key>, Vec<Key>>,
        out: &mut Vec<(u32, Key)>,
    ) {
        let mut below = children.get(&at).cloned().unwrap_or_default();
        below.sort_by_cached_key(|k| self.label(*k, children));
        for k in below {
            out.push((depth, k));
            self.order(Some(k), depth + 1, children, out);
        }
    }
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
