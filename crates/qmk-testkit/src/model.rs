//! What the kernel promises, restated slowly: a flat list of capabilities, each with its parent, and what they name.
//!
//! The model decides by itself whether a call must be refused or must succeed, wherever that can be told from outside.
//! Where it depends on the schedule (magic states in stock, deadlines, fences) the kernel decides, and the model checks
//! what must hold if it succeeds and that nothing changes if it does not.

use crate::judge::{admissible, peak};
use qmk_kernel::abi::image::{Image, Op};
use qmk_kernel::abi::syscall::{
    Budget, ChannelState, DomainUsage, ObjectKind, Patch, Quota, Run, StrandState, StrandStatus,
};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{DomainId, Kernel};
use std::collections::{BTreeMap, BTreeSet};

/// Resources of the shared part of the machine, or of a region.
#[derive(Clone, Copy, Debug)]
struct Part {
    qubits: u32,
    routes: u32,
    rate: u32,
    buffer: u32,
}

impl Part {
    /// Gives a part of this part away.
    fn give(&mut self, part: &Part) {
        self.qubits -= part.qubits;
        self.routes -= part.routes;
        self.rate -= part.rate;
        self.buffer -= part.buffer;
    }

    fn take_back(&mut self, part: &Part) {
        self.qubits += part.qubits;
        self.routes += part.routes;
        self.rate += part.rate;
        self.buffer += part.buffer;
    }
}

#[derive(Clone, Debug)]
struct Strand {
    image: Image,
    /// Object that stays, and counts, as long as the strand does.
    image_object: usize,
    run: Run,
    machine: usize,
    region: Option<usize>,
    spawned: u64,
}

#[derive(Clone, Debug)]
enum Object {
    Machine { parent: Option<usize>, depth: u32, budget: Option<Budget>, magic: u64 },
    Domain(DomainId),
    Image(Image),
    Strand(Box<Strand>),
    Qubit { machine: usize, ready_at: u64 },
    Context,
    Region(Part),
    Endpoint { channel: usize, side: usize },
    Checkpoint(Of),
}

/// What a checkpoint is of.
#[derive(Clone, Copy, Debug)]
enum Of {
    Strand(usize),
    /// Interactive qubits, when so many had been taken, freed or linked.
    Qubits(u64),
}

#[derive(Clone, Debug)]
struct Capability {
    domain: DomainId,
    handle: Handle,
    object: usize,
    rights: Rights,
    badge: u64,
    parent: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    domain: DomainId,
    qubit: Option<usize>,
    endpoint: usize,
}

#[derive(Clone, Debug)]
struct Channel {
    ends: [End; 2],
    state: ChannelState,
    asked: f64,
    ready_at: u64,
}

impl Channel {
    fn is_open(&self) -> bool {
        self.state != ChannelState::Closed
    }
}

/// What is counted per domain for ever.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Times that qubits were taken, freed or linked.
    version: u64,
    pairs: u64,
    /// Magic states, as last seen.
    magic: u64,
    /// Those of interactive qubits, and of strands that are gone.
    told: u64,
    /// A strand was taken back, so that what its status tells is not what it cost.
    inexact: bool,
}

/// How often calls of one kind succeeded and were refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that were refused.
    pub refusals: u64,
}

/// A kernel, and what it should be.
#[derive(Debug)]
pub struct Model<D> {
    /// The kernel. Calls that change what capabilities there are go through [`Model::call`].
    pub kernel: Kernel<D>,
    /// Quotas of the domains that are alive.
    pub quotas: BTreeMap<DomainId, Quota>,
    capabilities: BTreeMap<usize, Capability>,
    next: usize,
    /// Each object with the domain whose quota it counts against.
    objects: Vec<(Object, DomainId)>,
    /// Objects that some capability names.
    live: BTreeSet<usize>,
    channels: Vec<Channel>,
    accounts: BTreeMap<DomainId, Account>,
    shared: Part,
    /// Magic states that each strand has cost, as last seen.
    costs: BTreeMap<usize, u64>,
    /// Magic states of that which undid something, by strand.
    undone: BTreeMap<usize, u64>,
    /// What a strand had cost when a checkpoint was taken: in all, and to undo something.
    marks: BTreeMap<usize, (u64, u64)>,
    /// Every handle that was ever freed, by domain.
    freed: BTreeSet<(DomainId, Handle)>,
    machine_size: u32,
    magic_rate: u64,
    /// Calls so far, by kind.
    pub counts: BTreeMap<&'static str, Count>,
    /// Calls so far.
    pub transitions: u64,
}

fn kind(object: &Object) -> ObjectKind {
    match object {
        Object::Machine { .. } => ObjectKind::Machine,
        Object::Domain(_) => ObjectKind::Domain,
        Object::Image(_) => ObjectKind::Image,
        Object::Strand(_) => ObjectKind::Strand,
        Object::Qubit { .. } => ObjectKind::Qubit,
        Object::Context => ObjectKind::Context,
        Object::Region(_) => ObjectKind::Region,
        Object::Endpoint { .. } => ObjectKind::Endpoint,
        Object::Checkpoint(_) => ObjectKind::Checkpoint,
    }
}

/// Kinds of call that are counted.
pub fn labels(call: &Syscall) -> Vec<&'static str> {
    use Syscall::*;
    let with = |name, more: &[(bool, &'static str)]| {
        std::iter::once(name).chain(more.iter().filter(|m| m.0).map(|m| m.1)).collect()
    };
    match call {
        CreateDomain { .. } => vec!["CreateDomain"],
        CreateContext { .. } => vec!["CreateContext"],
        CreateRegion { .. } => vec!["CreateRegion"],
        Derive { budget, into, .. } => {
            with("Derive", &[(budget.is_some(), "Derive with budget"), (into.is_some(), "Derive into another")])
        }
        Revoke { .. } => vec!["Revoke"],
        Delete { .. } => vec!["Delete"],
        Inspect { .. } => vec!["Inspect"],
        Admit { .. } => vec!["Admit"],
        Spawn { run, .. } => with(
            "Spawn",
            &[
                (run.deadline.is_some(), "Spawn with deadline"),
                (run.context.is_some(), "Spawn in context"),
                (run.region.is_some(), "Spawn in region"),
                (run.priority != 0, "Spawn with priority"),
                (run.patch != Patch::default(), "Spawn on patches"),
            ],
        ),
        Status { .. } => vec!["Status"],
        Outcomes { .. } => vec!["Outcomes"],
        Pause { paused, .. } => vec![if *paused { "Pause" } else { "Pause not" }],
        Migrate { region, .. } => vec![if region.is_some() { "Migrate to region" } else { "Migrate to shared" }],
        Rollback { strand, .. } => vec![if strand.is_some() { "Rollback of strand" } else { "Rollback of qubits" }],
        Checkpoint { strand, .. } => {
            vec![if strand.is_some() { "Checkpoint of strand" } else { "Checkpoint of qubits" }]
        }
        CheckpointStatus { .. } => vec!["CheckpointStatus"],
        Restore { .. } => vec!["Restore"],
        TakeQubit { .. } => vec!["TakeQubit"],
        FreeQubit { uncompute, .. } => with("FreeQubit", &[(uncompute.is_some(), "FreeQubit with uncomputation")]),
        Apply { .. } => vec!["Apply"],
        Offer { .. } => vec!["Offer"],
        Accept { .. } => vec!["Accept"],
        Teleport { .. } => vec!["Teleport"],
        SwapEntanglement { .. } => vec!["SwapEntanglement"],
        CloseChannel { .. } => vec!["CloseChannel"],
        ChannelStatus { .. } => vec!["ChannelStatus"],
        Usage => vec!["Usage"],
    }
}

/// What quotas count as the size of an image.
fn size(image: &Image) -> u64 {
    let terms: usize = image.code.iter().filter_map(|i| Some(image.cond_terms(i.cond?).len())).sum();
    image.code.len() as u64 + image.terms.len().max(terms) as u64 + image.qubits as u64 + image.events as u64
}

/// States in which a strand has not issued everything.
fn issues(state: StrandState) -> bool {
    matches!(state, StrandState::Waiting | StrandState::Running | StrandState::Held)
}

impl<D: Device> Model<D> {
    /// Boots a kernel with a root domain of this quota. Returns the root and its machine capability as well.
    pub fn boot_on(device: D, quota: Quota) -> (Self, DomainId, Handle) {
        let spec = device.spec();
        let shared = Part {
            qubits: spec.logical_qubits,
            routes: spec.routes_per_epoch,
            rate: spec.magic_per_epoch,
            buffer: spec.magic_buffer,
        };
        let (kernel, root, machine) = Kernel::boot(device, 1, quota);
        let capability =
            Capability { domain: root, handle: machine, object: 0, rights: Rights::all(), badge: 0, parent: None };
        let model = Model {
            kernel,
            quotas: BTreeMap::from([(root, quota)]),
            capabilities: BTreeMap::from([(0, capability)]),
            next: 1,
            objects: vec![(Object::Machine { parent: None, depth: 0, budget: None, magic: 0 }, root)],
            live: BTreeSet::from([0]),
            channels: Vec::new(),
            accounts: BTreeMap::from([(root, Account::default())]),
            shared,
            costs: BTreeMap::new(),
            undone: BTreeMap::new(),
            marks: BTreeMap::new(),
            freed: BTreeSet::new(),
            machine_size: shared.qubits,
            magic_rate: shared.rate as u64,
            counts: BTreeMap::new(),
            transitions: 0,
        };
        (model, root, machine)
    }

    /// The same expectations of another kernel that went through the same calls.
    pub fn over(&self, kernel: Kernel<D>) -> Self {
        Model {
            kernel,
            quotas: self.quotas.clone(),
            capabilities: self.capabilities.clone(),
            next: self.next,
            objects: self.objects.clone(),
            live: self.live.clone(),
            channels: self.channels.clone(),
            accounts: self.accounts.clone(),
            shared: self.shared,
            costs: self.costs.clone(),
            undone: self.undone.clone(),
            marks: self.marks.clone(),
            freed: self.freed.clone(),
            machine_size: self.machine_size,
            magic_rate: self.magic_rate,
            counts: BTreeMap::new(),
            transitions: 0,
        }
    }

    /// Handles a domain holds, in order.
    pub fn held(&self, domain: DomainId) -> Vec<Handle> {
        let mut handles: Vec<_> = self.capabilities.values().filter(|c| c.domain == domain).map(|c| c.handle).collect();
        handles.sort();
        handles
    }

    /// Handles that were valid once.
    pub fn freed(&self) -> Vec<Handle> {
        self.freed.iter().map(|(_, h)| *h).collect()
    }

    /// Every domain that ever was.
    pub fn domains(&self) -> Vec<DomainId> {
        let made = self.objects.iter().filter_map(|(o, _)| if let Object::Domain(d) = o { Some(*d) } else { None });
        std::iter::once(DomainId(0)).chain(made).collect()
    }

    /// Numbers of live capabilities, of objects they name, and of domains.
    pub fn sizes(&self) -> [usize; 3] {
        [self.capabilities.len(), self.live.len(), self.quotas.len()]
    }

    /// The derivation tree, siblings by age, with domains and objects numbered as they are met: states that differ only
    /// in names have the same key.
    pub fn key(&self) -> Vec<u32> {
        let mut names: [Vec<u32>; 2] = [vec![0], Vec::new()];
        let mut name = |of: usize, id: u32| {
            let at = names[of].iter().position(|&n| n == id);
            at.unwrap_or_else(|| {
                names[of].push(id);
                names[of].len() - 1
            }) as u32
        };
        let mut key = Vec::new();
        let mut work = vec![(0, 0)];
        while let Some((i, depth)) = work.pop() {
            let Some(c) = self.capabilities.get(&i) else { continue };
            let target = match &self.objects[c.object].0 {
                Object::Domain(d) => name(0, d.0),
                _ => u32::MAX,
            };
            let holder = name(0, c.domain.0);
            key.extend([depth, holder, name(1, c.object as u32), target, c.rights.bits(), c.badge as u32]);
            work.extend(self.capabilities.iter().filter(|(_, c)| c.parent == Some(i)).map(|(&j, _)| (j, depth + 1)));
        }
        key
    }

    /// Whether the model lets this call through: never, perhaps, or for certain.
    pub fn allows(&mut self, d: DomainId, call: &Syscall) -> Verdict {
        self.expect(d, call).map_or(Verdict::Never, |(verdict, _)| verdict)
    }

    /// What a handle names, if anything.
    pub fn object_of(&self, domain: DomainId, handle: Handle) -> Option<usize> {
        self.find(domain, handle).map(|(_, c)| c.object)
    }

    fn find(&self, domain: DomainId, handle: Handle) -> Option<(usize, &Capability)> {
        self.capabilities.iter().find(|(_, c)| c.domain == domain && c.handle == handle).map(|(i, c)| (*i, c))
    }

    /// A capability of this kind with these rights: its index, its object and its rights.
    fn allowed(&self, d: DomainId, handle: Handle, wanted: ObjectKind, need: Rights) -> Option<(usize, usize, Rights)> {
        let (i, c) = self.find(d, handle)?;
        let fits = kind(&self.objects[c.object].0) == wanted && c.rights.contains(need);
        fits.then_some((i, c.object, c.rights))
    }

    fn object(&self, object: usize) -> &Object {
        &self.objects[object].0
    }

    /// The image that a handle names, if any.
    pub fn image(&self, domain: DomainId, handle: Handle) -> Option<&Image> {
        match self.object(self.object_of(domain, handle)?) {
            Object::Image(image) => Some(image),
            _ => None,
        }
    }

    fn owner(&self, object: usize) -> DomainId {
        self.objects[object].1
    }

    fn live_strands(&self) -> Vec<(usize, DomainId, Strand)> {
        let strand = |&o: &usize| match self.object(o) {
            Object::Strand(s) => Some((o, self.owner(o), (**s).clone())),
            _ => None,
        };
        self.live.iter().filter_map(strand).collect()
    }

    fn live_qubits(&self) -> impl Iterator<Item = (usize, usize)> {
        self.live.iter().filter_map(|&o| match self.object(o) {
            Object::Qubit { machine, .. } => Some((o, *machine)),
            _ => None,
        })
    }

    fn physical(&self, patch: Patch) -> u64 {
        self.kernel.device().physical_qubits(patch).unwrap_or(1) as u64
    }

    fn magic(&self, op: &Op, patch: Patch) -> u64 {
        self.kernel.device().cost(op, patch).magic as u64
    }

    /// What a domain holds. The kernel decides when strands run and when they issue, so that is read from it.
    fn used(&mut self, domain: DomainId) -> DomainUsage {
        let told = match self.kernel.syscall(domain, Syscall::Usage) {
            Ok(Reply::Usage { used, .. }) => used,
            other => panic!("{domain:?}: {other:?}"),
        };
        let mut used = DomainUsage {
            magic: told.magic,
            epochs: told.epochs,
            total_magic: told.total_magic,
            total_pairs: self.accounts[&domain].pairs,
            slots: self.capabilities.values().filter(|c| c.domain == domain).count() as u32,
            ..DomainUsage::default()
        };
        let open = self.channels.iter().filter(|c| c.is_open());
        used.channels = open.flat_map(|c| c.ends).filter(|e| e.domain == domain).count() as u32;
        let kept: BTreeSet<usize> = self.live_strands().iter().map(|(_, _, s)| s.image_object).collect();
        for &o in self.live.union(&kept) {
            if let (Object::Image(image), true) = (self.object(o), self.owner(o) == domain) {
                used.instructions += size(image) as u32;
            }
        }
        let each = self.physical(Patch::default());
        for o in self.live.clone() {
            let (object, owner) = &self.objects[o];
            if *owner != domain {
                continue;
            }
            match object {
                Object::Checkpoint(_) => used.checkpoints += 1,
                Object::Qubit { .. } => {
                    used.qubits += 1;
                    used.physical_qubits += each;
                }
                Object::Strand(strand) => {
                    let strand = strand.clone();
                    used.strands += 1;
                    if self.holds(o, &strand) {
                        let peak = peak(&strand.image);
                        used.qubits += peak;
                        used.physical_qubits += peak as u64 * self.physical(strand.run.patch);
                    }
                }
                _ => {}
            }
        }
        used
    }

    /// Some capability to an object that may read it. The first one that there was may, and all others derive from it.
    fn reader(&self, object: usize) -> (DomainId, Handle) {
        let reader = self.capabilities.values().find(|c| c.object == object && c.rights.contains(Rights::READ));
        reader.map(|c| (c.domain, c.handle)).expect("an object that no one can read")
    }

    /// Status of a strand object, read by whoever may.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn status(&mut self, object: usize) -> StrandStatus {
        let (domain, strand) = self.reader(object);
        match self.kernel.syscall(domain, Syscall::Status { strand }) {
            Ok(Reply::Status(s)) => s,
            other => panic!("status of a held strand: {other:?}"),
        }
    }

    /// Whether a strand holds its qubits.
    fn holds(&mut self, object: usize, strand: &Strand) -> bool {
        match self.status(object).state {
            StrandState::Running | StrandState::Held | StrandState::Draining => true,
            // What starts at once and fails at that gives back its qubits in the next epoch, or with its region.
            StrandState::Faulted => {
                let place = strand.region.is_none_or(|r| self.live.contains(&r));
                strand.run.deadline.is_some() && strand.spawned == self.kernel.epoch() && place
            }
            StrandState::Waiting | StrandState::Done => false,
        }
    }

    /// Whether budgets that a machine object is part of have this left.
    fn within_budget(&self, machine: usize, strands: u32, qubits: u32, more: u64) -> bool {
        let mut chain = Some(machine);
        while let Some(o) = chain {
            let Object::Machine { parent, budget, magic, .. } = self.object(o) else { return false };
            if let Some(b) = budget {
                let all = self.live_strands();
                let part: Vec<_> = all.iter().filter(|(_, _, s)| self.part_of(s.machine, o)).collect();
                let held = self.live_qubits().filter(|(_, m)| self.part_of(*m, o)).count() as u32;
                let peaks: u32 = part.iter().map(|(_, _, s)| peak(&s.image)).sum();
                let fits = part.len() as u32 + strands <= b.strands
                    && held.saturating_add(peaks).saturating_add(qubits) <= b.qubits
                    && magic.saturating_add(more) <= b.magic;
                if !fits {
                    return false;
                }
            }
            chain = *parent;
        }
        true
    }

    /// Whether a machine object is that budget or a part of it.
    fn part_of(&self, mut machine: usize, budget: usize) -> bool {
        while machine != budget {
            match self.object(machine) {
                Object::Machine { parent: Some(p), .. } => machine = *p,
                _ => return false,
            }
        }
        true
    }

    fn charge(&mut self, machine: usize, more: u64) {
        let mut chain = Some(machine);
        while let Some(o) = chain {
            let Object::Machine { parent, magic, .. } = &mut self.objects[o].0 else { return };
            *magic = magic.saturating_add(more);
            chain = *parent;
        }
    }

    /// Whether a qubit waits for a pair.
    fn waits(&self, qubit: usize) -> bool {
        matches!(self.object(qubit), Object::Qubit { ready_at, .. } if *ready_at > self.kernel.epoch())
    }

    /// A qubit of the domain's own that is in no channel.
    fn loose(&self, d: DomainId, handle: Handle) -> Option<usize> {
        let (_, qubit, _) = self.allowed(d, handle, ObjectKind::Qubit, Rights::USE)?;
        let bound = self.channels.iter().any(|c| c.ends.iter().any(|e| e.qubit == Some(qubit)));
        (self.owner(qubit) == d && !bound).then_some(qubit)
    }

    /// The channel and the side of an endpoint.
    fn endpoint(&self, d: DomainId, handle: Handle, need: Rights) -> Option<(usize, usize)> {
        let (_, o, _) = self.allowed(d, handle, ObjectKind::Endpoint, need)?;
        match *self.object(o) {
            Object::Endpoint { channel, side } => Some((channel, side)),
            _ => None,
        }
    }

    /// An endpoint whose near half the domain may use.
    fn half(&self, d: DomainId, handle: Handle) -> Option<(usize, usize)> {
        let (channel, side) = self.endpoint(d, handle, Rights::USE)?;
        let c = &self.channels[channel];
        let ready = c.state == ChannelState::Linked && c.ready_at <= self.kernel.epoch();
        (c.ends[side].domain == d && ready).then_some((channel, side))
    }

    fn part(&self, region: Option<usize>) -> Part {
        match region.map(|r| self.object(r)) {
            Some(Object::Region(part)) => *part,
            _ => self.shared,
        }
    }

    /// Region behind an optional handle, if it may be used.
    fn region_of(&self, d: DomainId, region: Option<Handle>) -> Option<Option<usize>> {
        match region {
            None => Some(None),
            Some(h) => self.allowed(d, h, ObjectKind::Region, Rights::USE).map(|(_, r, _)| Some(r)),
        }
    }

    /// Whether a region ever has what instructions of an image need at once.
    fn affords(&self, part: Part, image: &Image, patch: Patch) -> bool {
        let cost = |op: &Op| self.kernel.device().cost(op, patch);
        image.code.iter().all(|i| cost(&i.op).magic <= part.buffer && cost(&i.op).routes <= part.routes)
    }

    /// A strand that may be held, moved and taken back.
    fn movable(&mut self, d: DomainId, handle: Handle) -> Option<(usize, Strand)> {
        let (_, o, _) = self.allowed(d, handle, ObjectKind::Strand, Rights::CONTROL)?;
        let Object::Strand(s) = self.object(o) else { return None };
        let strand = (**s).clone();
        (issues(self.status(o).state) && strand.run.deadline.is_none()).then_some((o, strand))
    }

    /// Qubits of the shared part that are free, if no strand is there.
    fn shared_free(&self) -> u32 {
        self.shared.qubits - self.live_qubits().count() as u32
    }

    /// No strand exists, so that nothing depends on the schedule.
    fn quiet(&self) -> bool {
        !self.live.iter().any(|&o| matches!(self.object(o), Object::Strand(_)))
    }

    /// No spaces ever met.
    fn unlinked(&self) -> bool {
        self.accounts.values().all(|a| a.pairs == 0) && self.channels.iter().all(|c| c.ready_at == 0)
    }

    /// What is there to be seen: of every domain, strand and channel.
    fn observe(&mut self) -> impl PartialEq + use<D> {
        let mut seen = Vec::new();
        for d in self.quotas.keys().copied().collect::<Vec<_>>() {
            seen.push((self.kernel.syscall(d, Syscall::Usage), self.kernel.capabilities(d)));
        }
        for o in self.live.clone() {
            let (domain, handle) = match self.object(o) {
                Object::Strand(_) | Object::Endpoint { .. } | Object::Checkpoint(_) => self.reader(o),
                _ => continue,
            };
            let call = match self.object(o) {
                Object::Strand(_) => Syscall::Status { strand: handle },
                Object::Endpoint { .. } => Syscall::ChannelStatus { endpoint: handle },
                _ => Syscall::CheckpointStatus { checkpoint: handle },
            };
            seen.push((self.kernel.syscall(domain, call), Vec::new()));
        }
        (seen, self.kernel.free_qubits(), self.kernel.epoch())
    }

    /// Performs a call on both; the kernel must agree with the model about whether it is allowed, and on its effect.
    /// Returns the new handle, if there is one.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn call(&mut self, d: DomainId, call: Syscall) -> Option<Handle> {
        match self.reply(d, call) {
            Ok(Reply::Handle(h)) => Some(h),
            Ok(Reply::Offered { endpoint, .. }) => Some(endpoint),
            _ => None,
        }
    }

    /// The same; returns the reply. Deleting goes on to its end.
    ///
    /// # Errors
    /// The kernel's refusal, which the model agrees with.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn reply(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        self.transitions += 1;
        let expected = self.expect(d, &call);
        let certain = matches!(expected, Some((Verdict::Always, _)));
        let before = (!certain).then(|| self.observe());
        let mut reply = self.kernel.syscall(d, call.clone());
        let mut deleted = 0;
        while let Ok(Reply::Deleted { count, more }) = reply {
            assert!(count <= 1024, "a step of {count}");
            deleted += count;
            if !more {
                reply = Ok(Reply::Deleted { count: deleted, more });
                break;
            }
            reply = self.kernel.syscall(d, call.clone());
        }
        for label in labels(&call) {
            let count = self.counts.entry(label).or_default();
            *if reply.is_ok() { &mut count.successes } else { &mut count.refusals } += 1;
        }
        match (expected, &reply) {
            (None | Some((Verdict::Maybe, _)), Err(_)) => {
                assert!(before == Some(self.observe()), "{d:?} {call:?} was refused and changed something: {reply:?}");
            }
            (Some((_, effect)), Ok(reply)) => self.apply(d, effect, reply, &call),
            (expected, _) => {
                panic!("{d:?} {call:?}\n  the model expects {expected:?}\n  the kernel replied {reply:?}")
            }
        }
        reply
    }
}

impl<D: Device> Model<D> {
    /// `None` if the call must be refused.
    fn expect(&mut self, d: DomainId, call: &Syscall) -> Expected {
        let quota = *self.quotas.get(&d)?;
        let caller = Caller { domain: d, quota, used: self.used(d) };
        match *call {
            Syscall::CreateDomain { machine, quota } => self.expect_domain(&caller, machine, quota),
            Syscall::CreateContext { machine, .. } => self.expect_context(&caller, machine),
            Syscall::CreateRegion { machine, qubits, routes, magic } => {
                self.expect_region(&caller, machine, [qubits, routes, magic])
            }
            Syscall::Derive { source, rights, badge, into, budget } => {
                self.expect_derive(d, source, rights, badge, into, budget)
            }
            Syscall::Revoke { target } => always(Effect::Delete(self.find(d, target)?.0, false)),
            Syscall::Delete { target } => always(Effect::Delete(self.find(d, target)?.0, true)),
            Syscall::Inspect { target } => self.expect_inspect(d, target),
            Syscall::Admit { machine, ref image } => self.expect_admit(&caller, machine, image),
            Syscall::Spawn { machine, image, run } => self.expect_spawn(&caller, machine, image, run),
            Syscall::Status { strand } => self.expect_status(d, strand),
            Syscall::Outcomes { strand, first, .. } => self.expect_outcomes(d, strand, first),
            Syscall::Pause { strand, .. } => self.movable(d, strand).and_then(|_| always(Effect::Nothing)),
            Syscall::Migrate { strand, region } => self.expect_migrate(d, strand, region),
            Syscall::Rollback { machine, strand } => self.expect_rollback(d, machine, strand),
            Syscall::Checkpoint { machine, strand } => self.expect_checkpoint(&caller, machine, strand),
            Syscall::CheckpointStatus { checkpoint } => self.expect_checkpoint_status(d, checkpoint),
            Syscall::Restore { checkpoint } => self.expect_restore(d, checkpoint),
            Syscall::TakeQubit { machine } => self.expect_take(&caller, machine),
            Syscall::FreeQubit { qubit, uncompute } => self.expect_free(d, qubit, uncompute),
            Syscall::Apply { machine, ref op, ref qubits } => self.expect_apply(&caller, machine, op, qubits),
            Syscall::Offer { machine, qubit, to, fidelity } => self.expect_offer(&caller, machine, qubit, to, fidelity),
            Syscall::Accept { machine, endpoint, qubit } => self.expect_accept(d, machine, endpoint, qubit),
            Syscall::Teleport { machine, endpoint, qubit } => self.expect_teleport(d, machine, endpoint, qubit),
            Syscall::SwapEntanglement { machine, endpoints } => self.expect_swap(d, machine, endpoints),
            Syscall::CloseChannel { endpoint } => self.expect_close(d, endpoint),
            Syscall::ChannelStatus { endpoint } => self.expect_channel_status(d, endpoint),
            Syscall::Usage => always(Effect::Exactly(Reply::Usage { used: caller.used, quota })),
        }
    }

    /// Checks the reply to a call that succeeded, and does the same to the model.
    fn apply(&mut self, d: DomainId, effect: Effect, reply: &Reply, call: &Syscall) {
        match effect {
            Effect::Nothing => {}
            Effect::Exactly(expected) => assert_eq!(*reply, expected, "{call:?}"),
            Effect::New(parent, object) => self.apply_new(d, parent, object, reply),
            Effect::Spawned(parent, strand, magic) => self.apply_spawn(d, parent, *strand, magic, reply),
            Effect::Derived(derivation) => self.apply_derive(d, derivation, reply),
            Effect::NewDomain(parent, quota) => self.apply_domain(d, parent, quota, reply),
            Effect::Delete(root, too) => self.apply_delete(root, too, reply, call),
            Effect::TakenBack(strand, rights) => self.apply_rollback(strand, rights, call),
            Effect::Restored(strand, checkpoint, again) => self.apply_restore(strand, checkpoint, again),
            Effect::Spent { machine, magic } => self.spend(d, machine, magic, call),
            Effect::Freed(qubit, machine) => self.apply_free(d, qubit, machine, reply, call),
            Effect::Taken(of) => self.apply_checkpoint_status(of, reply),
            Effect::Offered(parent, to, qubit, asked) => self.apply_offer(d, parent, to, qubit, asked, reply),
            Effect::Accepted(channel, qubit) => self.apply_accept(channel, qubit, reply),
            Effect::Teleported(channel) => self.apply_teleport(channel, reply),
            Effect::Swapped(first, second) => self.apply_swap(d, first, second),
            Effect::Closed(channel) => self.close(channel),
            Effect::Channel(channel) => self.apply_channel_status(channel, reply, call),
        }
    }

    /// A new object with its first capability.
    fn apply_new(&mut self, d: DomainId, parent: usize, object: Object, reply: &Reply) {
        match &object {
            Object::Region(part) => self.shared.give(part),
            Object::Qubit { .. } => self.account(d).version += 1,
            _ => {}
        }
        let object = self.add(object, d);
        self.insert(d, handle(reply), object, Rights::OBJECT, 0, parent);
    }
}

/// The handle that a call returned.
fn handle(reply: &Reply) -> Handle {
    match reply {
        Reply::Handle(handle) => *handle,
        other => panic!("{other:?} is not a handle"),
    }
}

impl<D: Device> Model<D> {
    /// The place of a machine capability with `ADMIN`, if the caller has a slot for what is made through it.
    fn administered(&self, caller: &Caller, machine: Handle) -> Option<usize> {
        let (parent, ..) = self.allowed(caller.domain, machine, ObjectKind::Machine, Rights::ADMIN)?;
        caller.has_slot().then_some(parent)
    }

    fn expect_domain(&self, caller: &Caller, machine: Handle, quota: Quota) -> Expected {
        always(Effect::NewDomain(self.administered(caller, machine)?, quota))
    }

    fn apply_domain(&mut self, d: DomainId, parent: usize, quota: Quota, reply: &Reply) {
        let id = self.kernel.domain_of(d, handle(reply)).expect("the new domain");
        assert!(self.quotas.insert(id, quota).is_none(), "{id:?} came back");
        self.accounts.insert(id, Account::default());
        let object = self.add(Object::Domain(id), d);
        self.insert(d, handle(reply), object, Rights::OBJECT, 0, parent);
    }

    fn expect_context(&self, caller: &Caller, machine: Handle) -> Expected {
        always(Effect::New(self.administered(caller, machine)?, Object::Context))
    }

    fn expect_region(&self, caller: &Caller, machine: Handle, [qubits, routes, magic]: [u32; 3]) -> Expected {
        let parent = self.administered(caller, machine)?;
        let Part { routes: all_routes, rate, buffer, .. } = self.shared;
        let quiet = self.quiet();
        let free = if quiet { self.shared_free() } else { self.kernel.free_qubits() };
        (qubits > 0 && qubits <= free && routes <= all_routes && magic <= rate).then_some(())?;
        let buffer = (buffer as u64 * magic as u64 / rate.max(1) as u64) as u32;
        let part = Part { qubits, routes, rate: magic, buffer };
        // Operations keep their routes to their end even when their strand is gone.
        certain_if(quiet && routes == 0, Effect::New(parent, Object::Region(part)))
    }
}

impl<D: Device> Model<D> {
    fn expect_derive(
        &self,
        d: DomainId,
        source: Handle,
        rights: Rights,
        badge: u64,
        into: Option<Handle>,
        budget: Option<Budget>,
    ) -> Expected {
        let (parent, c) = self.find(d, source)?;
        let (held, badge) = (c.rights, if c.badge != 0 { c.badge } else { badge });
        let target = match into {
            None => d,
            Some(_) if !held.contains(Rights::GRANT) => return None,
            Some(into) => {
                let (_, o, _) = self.allowed(d, into, ObjectKind::Domain, Rights::CONTROL)?;
                let Object::Domain(t) = self.object(o) else { return None };
                *t
            }
        };
        let divides = match (self.object(c.object), budget) {
            (_, None) => true,
            (Object::Machine { depth, .. }, Some(_)) => *depth < 16,
            _ => false,
        };
        let fits = self.held(target).len() < self.quotas[&target].slots as usize;
        (held.contains(rights) && divides && fits).then_some(())?;
        always(Effect::Derived(Derivation { parent, target, rights, badge, budget }))
    }

    fn apply_derive(&mut self, d: DomainId, derivation: Derivation, reply: &Reply) {
        let Derivation { parent, target, rights, badge, budget } = derivation;
        let mut object = self.capabilities[&parent].object;
        if let (Some(_), Object::Machine { depth, .. }) = (budget, self.object(object)) {
            let depth = depth + 1;
            object = self.add(Object::Machine { parent: Some(object), depth, budget, magic: 0 }, d);
        }
        self.insert(target, handle(reply), object, rights, badge, parent);
    }

    fn expect_inspect(&self, d: DomainId, target: Handle) -> Expected {
        let (_, c) = self.find(d, target)?;
        let (kind, rights, badge) = (kind(self.object(c.object)), c.rights, c.badge);
        always(Effect::Exactly(Reply::Capability { kind, rights, badge }))
    }

    fn apply_delete(&mut self, root: usize, too: bool, reply: &Reply, call: &Syscall) {
        let before = self.capabilities.len();
        self.delete(root, too);
        let count = (before - self.capabilities.len()) as u32;
        assert_eq!(*reply, Reply::Deleted { count, more: false }, "{call:?}");
    }
}

impl<D: Device> Model<D> {
    fn expect_admit(&self, caller: &Caller, machine: Handle, image: &Image) -> Expected {
        let (parent, _, rights) = self.allowed(caller.domain, machine, ObjectKind::Machine, Rights::USE)?;
        let fits = caller.used.instructions as u64 + size(image) <= caller.quota.instructions as u64;
        (caller.has_slot() && fits && admissible(image, rights)).then_some(())?;
        always(Effect::New(parent, Object::Image(image.clone())))
    }

    fn expect_spawn(&self, caller: &Caller, machine: Handle, image: Handle, run: Run) -> Expected {
        let d = caller.domain;
        let (parent, machine, rights) = self.allowed(d, machine, ObjectKind::Machine, Rights::USE)?;
        let (_, image_object, _) = self.allowed(d, image, ObjectKind::Image, Rights::USE)?;
        let Object::Image(image) = self.object(image_object).clone() else { return None };
        let region = self.region_of(d, run.region)?;
        if let Some(context) = run.context {
            self.allowed(d, context, ObjectKind::Context, Rights::USE)?;
        }
        let classes = image.code.iter().all(|i| rights.contains(i.op.class()));
        let magic: u64 = image.code.iter().map(|i| self.magic(&i.op, run.patch)).sum();
        let total = magic.saturating_mul(run.shots);
        let within = self.fits_spawn(caller, &image, &run, region)?
            && (run.deadline.is_none() || self.starts_now(caller, &image, &run)?)
            && self.within_budget(machine, 1, peak(&image), total);
        (run.shots > 0 && caller.has_slot() && classes && within).then_some(())?;
        let spawned = self.kernel.epoch();
        let strand = Strand { image, image_object, run, machine, region, spawned };
        certain_if(run.deadline.is_none(), Effect::Spawned(parent, Box::new(strand), total))
    }

    /// Whether an image alone fits the caller's quota and its region; `None` if the device has no such patch.
    fn fits_spawn(&self, caller: &Caller, image: &Image, run: &Run, region: Option<usize>) -> Option<bool> {
        let (peak, part, quota) = (peak(image), self.part(region), &caller.quota);
        let physical = self.kernel.device().physical_qubits(run.patch)? as u64 * peak as u64;
        let most = image.code.iter().map(|i| self.magic(&i.op, run.patch)).max().unwrap_or(0);
        Some(
            peak <= quota.qubits.min(part.qubits)
                && physical <= quota.physical_qubits
                && caller.used.strands < quota.strands
                && most <= quota.magic
                && self.affords(part, image, run.patch),
        )
    }

    /// Whether a strand with a deadline may have its qubits at once, and is not limited by a window.
    fn starts_now(&self, caller: &Caller, image: &Image, run: &Run) -> Option<bool> {
        let (peak, quota, used) = (peak(image), &caller.quota, &caller.used);
        let physical = self.kernel.device().physical_qubits(run.patch)? as u64 * peak as u64;
        let unlimited = (quota.magic, quota.epochs) == (u64::MAX, u64::MAX) && run.context.is_none();
        let now = used.qubits.saturating_add(peak) <= quota.qubits
            && used.physical_qubits.saturating_add(physical) <= quota.physical_qubits
            && peak <= self.kernel.free_qubits();
        Some(unlimited && now)
    }

    fn apply_spawn(&mut self, d: DomainId, parent: usize, strand: Strand, magic: u64, reply: &Reply) {
        self.charge(strand.machine, magic);
        let object = self.add(Object::Strand(Box::new(strand)), d);
        self.insert(d, handle(reply), object, Rights::OBJECT, 0, parent);
    }

    fn expect_status(&self, d: DomainId, strand: Handle) -> Expected {
        self.allowed(d, strand, ObjectKind::Strand, Rights::READ)?;
        always(Effect::Nothing)
    }

    fn expect_outcomes(&mut self, d: DomainId, strand: Handle, first: u64) -> Expected {
        let (_, o, _) = self.allowed(d, strand, ObjectKind::Strand, Rights::READ)?;
        (first < self.status(o).shots_done).then_some(())?;
        always(Effect::Nothing)
    }

    fn expect_migrate(&mut self, d: DomainId, strand: Handle, region: Option<Handle>) -> Expected {
        let (_, strand) = self.movable(d, strand)?;
        let part = self.part(self.region_of(d, region)?);
        let fits = peak(&strand.image) <= part.qubits && self.affords(part, &strand.image, strand.run.patch);
        fits.then_some(())?;
        always(Effect::Nothing)
    }

    fn expect_rollback(&mut self, d: DomainId, machine: Handle, strand: Option<Handle>) -> Expected {
        let need = Rights::USE | Rights::COMPUTE;
        let (_, machine, rights) = self.allowed(d, machine, ObjectKind::Machine, need)?;
        match strand {
            Some(strand) => {
                let (o, strand) = self.movable(d, strand)?;
                // What is undone is done again; how much that is, only the kernel knows.
                let all: u64 = strand.image.code.iter().map(|i| self.magic(&i.op, strand.run.patch)).sum();
                let most = all.saturating_mul(2).saturating_mul(strand.run.shots);
                let fits = self.within_budget(strand.machine, 0, 0, most);
                certain_if(fits && rights.contains(Rights::CLASSES), Effect::TakenBack(o, rights))
            }
            None if self.live_qubits().any(|(q, _)| self.owner(q) == d) => {
                certain_if(false, Effect::Spent { machine, magic: None })
            }
            None => always(Effect::Exactly(Reply::RolledBack(0))),
        }
    }

    fn apply_rollback(&mut self, strand: usize, rights: Rights, call: &Syscall) {
        let undone = self.status(strand).magic_states - self.costs[&strand];
        let Object::Strand(s) = self.object(strand) else { panic!("not a strand") };
        let (machine, again) = (s.machine, undone.saturating_mul(2).saturating_mul(s.run.shots));
        assert!(undone == 0 || rights.contains(Rights::MAGIC), "{call:?} undid what it may not do");
        assert!(undone == 0 || self.within_budget(machine, 0, 0, again), "{call:?} exceeds a budget");
        self.charge(machine, again);
        *self.undone.entry(strand).or_default() += undone;
        self.account_of(strand).inexact = true;
    }
}

impl<D: Device> Model<D> {
    fn expect_checkpoint(&mut self, caller: &Caller, machine: Handle, strand: Option<Handle>) -> Expected {
        let need = Rights::USE | Rights::CHECKPOINT;
        let (parent, ..) = self.allowed(caller.domain, machine, ObjectKind::Machine, need)?;
        let copies = self.kernel.device().spec().features.snapshot;
        (caller.has_slot() && copies && caller.used.checkpoints < caller.quota.checkpoints).then_some(())?;
        match strand {
            Some(strand) => {
                let of = Of::Strand(self.movable(caller.domain, strand)?.0);
                always(Effect::New(parent, Object::Checkpoint(of)))
            }
            None => {
                self.live_qubits().find(|(q, _)| self.owner(*q) == caller.domain)?;
                let of = Of::Qubits(self.accounts[&caller.domain].version);
                // Qubits that are entangled with those of others cannot be copied.
                certain_if(self.unlinked(), Effect::New(parent, Object::Checkpoint(of)))
            }
        }
    }

    fn expect_checkpoint_status(&self, d: DomainId, checkpoint: Handle) -> Expected {
        let (_, o, _) = self.allowed(d, checkpoint, ObjectKind::Checkpoint, Rights::READ)?;
        let Object::Checkpoint(of) = self.object(o) else { return None };
        // That of a strand fails if the strand ends first.
        certain_if(matches!(of, Of::Qubits(_)), Effect::Taken(*of))
    }

    fn apply_checkpoint_status(&self, of: Of, reply: &Reply) {
        let &Reply::Checkpoint(taken) = reply else { panic!("{reply:?}") };
        assert!(taken.is_none_or(|epoch| epoch <= self.kernel.epoch()));
        assert!(taken.is_some() || matches!(of, Of::Strand(_)), "a checkpoint of qubits is taken at once");
    }

    fn expect_restore(&mut self, d: DomainId, checkpoint: Handle) -> Expected {
        let (_, o, _) = self.allowed(d, checkpoint, ObjectKind::Checkpoint, Rights::USE)?;
        let Object::Checkpoint(of) = *self.object(o) else { return None };
        let (domain, checkpoint) = self.reader(o);
        let taken = self.kernel.syscall(domain, Syscall::CheckpointStatus { checkpoint });
        matches!(taken, Ok(Reply::Checkpoint(Some(_)))).then_some(())?;
        match of {
            Of::Strand(strand) => self.expect_restore_strand(strand, o),
            Of::Qubits(version) => {
                (self.accounts[&self.owner(o)].version == version).then_some(())?;
                certain_if(self.unlinked(), Effect::Nothing)
            }
        }
    }

    fn expect_restore_strand(&mut self, s: usize, checkpoint: usize) -> Expected {
        use StrandState::*;
        self.live.contains(&s).then_some(())?;
        let status = self.status(s);
        let runs = matches!(status.state, Running | Held | Draining);
        let Object::Strand(strand) = self.object(s) else { return None };
        // What is done again counts again, what was undone does not.
        let (at, at_undone) = self.marks[&checkpoint];
        let undone = self.undone.get(&s).copied().unwrap_or(0);
        let again = (status.magic_states - 2 * undone).saturating_sub(at - 2 * at_undone);
        let again = again.saturating_mul(strand.run.shots);
        (runs && self.within_budget(strand.machine, 0, 0, again)).then_some(())?;
        always(Effect::Restored(s, checkpoint, again))
    }

    fn apply_restore(&mut self, strand: usize, checkpoint: usize, again: u64) {
        if let Object::Strand(s) = self.object(strand) {
            self.charge(s.machine, again);
        }
        self.undone.insert(strand, self.marks[&checkpoint].1);
        self.account_of(strand).inexact = true;
    }
}

impl<D: Device> Model<D> {
    fn expect_take(&self, caller: &Caller, machine: Handle) -> Expected {
        let need = Rights::USE | Rights::ALLOC;
        let (parent, machine, _) = self.allowed(caller.domain, machine, ObjectKind::Machine, need)?;
        let (used, quota) = (&caller.used, &caller.quota);
        let each = self.physical(Patch::default());
        let fits = used.qubits < quota.qubits
            && used.physical_qubits.saturating_add(each) <= quota.physical_qubits
            && self.within_budget(machine, 0, 1, 0);
        let quiet = self.quiet();
        let free = if quiet { self.shared_free() } else { self.kernel.free_qubits() };
        (caller.has_slot() && fits && free > 0).then_some(())?;
        certain_if(quiet, Effect::New(parent, Object::Qubit { machine, ready_at: 0 }))
    }

    fn expect_free(&self, d: DomainId, qubit: Handle, uncompute: Option<Handle>) -> Expected {
        let (_, o, _) = self.allowed(d, qubit, ObjectKind::Qubit, Rights::CONTROL)?;
        (!self.waits(o)).then_some(())?;
        let machine = match uncompute {
            Some(machine) => Some(self.allowed(d, machine, ObjectKind::Machine, Rights::USE)?.1),
            None => None,
        };
        certain_if(machine.is_none(), Effect::Freed(o, machine))
    }

    fn apply_free(&mut self, d: DomainId, qubit: usize, machine: Option<usize>, reply: &Reply, call: &Syscall) {
        let &Reply::Freed { dirty, undone } = reply else { panic!("{reply:?}") };
        assert!(undone == 0 || machine.is_some() && !dirty, "{call:?} {reply:?}");
        if let Some(machine) = machine {
            self.spend(d, machine, (undone == 0).then_some(0), call);
        }
        let root = self.capabilities.iter().find(|(_, c)| c.object == qubit).map(|(&i, _)| i);
        self.delete(root.expect("a capability to the qubit"), true);
        assert!(!self.live.contains(&qubit));
    }

    fn expect_apply(&self, caller: &Caller, machine: Handle, op: &Op, qubits: &[Handle]) -> Expected {
        let d = caller.domain;
        let (_, machine, _) = self.allowed(d, machine, ObjectKind::Machine, Rights::USE | op.class())?;
        let mut named = Vec::new();
        for q in op.qubits() {
            let (_, o, _) = self.allowed(d, *qubits.get(q as usize)?, ObjectKind::Qubit, Rights::USE)?;
            named.push(o);
        }
        let one_space = named.iter().all(|&o| self.owner(o) == self.owner(named[0]));
        let distinct = (1..named.len()).all(|i| !named[..i].contains(&named[i]));
        let own_call = matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence);
        let ready = named.iter().all(|&q| !self.waits(q));
        let sound = distinct && !own_call && !named.is_empty() && op.angle().is_none_or(f64::is_finite);
        let magic = self.magic(op, Patch::default());
        let left = caller.quota.magic.saturating_sub(caller.used.magic);
        let paid = magic == 0 || magic <= left && self.within_budget(machine, 0, 0, magic);
        (one_space && sound && ready && paid).then_some(())?;
        certain_if(magic == 0, Effect::Spent { machine, magic: Some(magic) })
    }
}

impl<D: Device> Model<D> {
    fn expect_offer(&mut self, caller: &Caller, machine: Handle, qubit: Handle, to: Handle, fidelity: f64) -> Expected {
        let d = caller.domain;
        let (parent, ..) = self.allowed(d, machine, ObjectKind::Machine, Rights::USE | Rights::LINK)?;
        let qubit = self.loose(d, qubit)?;
        let (_, o, _) = self.allowed(d, to, ObjectKind::Domain, Rights::OFFER)?;
        let Object::Domain(to) = *self.object(o) else { return None };
        let theirs = self.quotas[&to];
        let fits = to != d && caller.has_slot() && caller.used.channels < caller.quota.channels && {
            let used = self.used(to);
            used.slots < theirs.slots && used.channels < theirs.channels
        };
        (fits && fidelity > 0.25 && fidelity <= 1.0).then_some(())?;
        always(Effect::Offered(parent, to, qubit, fidelity))
    }

    fn apply_offer(&mut self, d: DomainId, parent: usize, to: DomainId, qubit: usize, asked: f64, reply: &Reply) {
        let &Reply::Offered { endpoint, invitation } = reply else { panic!("{reply:?}") };
        let channel = self.channels.len();
        let near = self.add(Object::Endpoint { channel, side: 0 }, d);
        let far = self.add(Object::Endpoint { channel, side: 1 }, to);
        let near_capability = self.next;
        self.insert(d, endpoint, near, Rights::OBJECT, 0, parent);
        self.insert(to, invitation, far, Rights::OBJECT - Rights::GRANT, 0, near_capability);
        let ends =
            [End { domain: d, qubit: Some(qubit), endpoint: near }, End { domain: to, qubit: None, endpoint: far }];
        self.channels.push(Channel { ends, state: ChannelState::Offered, asked, ready_at: 0 });
    }

    fn expect_accept(&self, d: DomainId, machine: Handle, endpoint: Handle, qubit: Handle) -> Expected {
        self.allowed(d, machine, ObjectKind::Machine, Rights::USE | Rights::LINK)?;
        let (channel, side) = self.endpoint(d, endpoint, Rights::USE)?;
        let c = &self.channels[channel];
        let mine = side == 1 && c.ends[1].domain == d && c.state == ChannelState::Offered;
        let qubit = self.loose(d, qubit)?;
        mine.then_some(())?;
        let raw = self.kernel.device().spec().link.raw[0];
        certain_if(c.asked <= raw, Effect::Accepted(channel, qubit))
    }

    fn apply_accept(&mut self, channel: usize, qubit: usize, reply: &Reply) {
        let &Reply::Channel(info) = reply else { panic!("{reply:?}") };
        let c = &mut self.channels[channel];
        assert_eq!(info.state, ChannelState::Linked);
        assert!(info.fidelity >= c.asked - 1e-9 && info.pairs > 0 && info.ready_at > self.kernel.epoch());
        (c.state, c.ready_at, c.ends[1].qubit) = (ChannelState::Linked, info.ready_at, Some(qubit));
        for end in c.ends {
            let account = self.account(end.domain);
            account.version += 1;
            account.pairs += info.pairs;
            self.set_ready(end.qubit, info.ready_at);
        }
    }

    fn expect_teleport(&self, d: DomainId, machine: Handle, endpoint: Handle, qubit: Handle) -> Expected {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.allowed(d, machine, ObjectKind::Machine, need)?;
        let (channel, _) = self.half(d, endpoint)?;
        self.loose(d, qubit)?;
        always(Effect::Teleported(channel))
    }

    fn apply_teleport(&mut self, channel: usize, reply: &Reply) {
        let Reply::Applied { outcomes, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(outcomes.len(), 2);
        let c = &mut self.channels[channel];
        c.state = ChannelState::Used;
        c.ends.iter_mut().for_each(|e| e.qubit = None);
    }

    fn expect_swap(&self, d: DomainId, machine: Handle, endpoints: [Handle; 2]) -> Expected {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.allowed(d, machine, ObjectKind::Machine, need)?;
        let (a, b) = (self.half(d, endpoints[0])?, self.half(d, endpoints[1])?);
        let far = |(channel, side): (usize, usize)| self.channels[channel].ends[1 - side].domain;
        (a.0 != b.0 && far(a) != far(b)).then_some(())?;
        always(Effect::Swapped(a, b))
    }

    fn apply_swap(&mut self, d: DomainId, (first, side): (usize, usize), (second, other_side): (usize, usize)) {
        let other_far = self.channels[second].ends[1 - other_side];
        let mine = [self.channels[first].ends[side].endpoint, self.channels[second].ends[other_side].endpoint];
        self.channels[first].ends[side] = other_far;
        let left = &mut self.channels[second];
        left.ends = mine.map(|endpoint| End { domain: d, qubit: None, endpoint });
        left.state = ChannelState::Closed;
        self.objects[other_far.endpoint].0 = Object::Endpoint { channel: first, side };
        for (side, endpoint) in mine.into_iter().enumerate() {
            self.objects[endpoint].0 = Object::Endpoint { channel: second, side };
        }
    }

    fn expect_close(&self, d: DomainId, endpoint: Handle) -> Expected {
        always(Effect::Closed(self.endpoint(d, endpoint, Rights::CONTROL)?.0))
    }

    fn expect_channel_status(&self, d: DomainId, endpoint: Handle) -> Expected {
        always(Effect::Channel(self.endpoint(d, endpoint, Rights::READ)?.0))
    }

    fn apply_channel_status(&self, channel: usize, reply: &Reply, call: &Syscall) {
        let &Reply::Channel(info) = reply else { panic!("{reply:?}") };
        let c = &self.channels[channel];
        assert_eq!(info.state, c.state, "{call:?}");
        if c.state == ChannelState::Offered {
            assert_eq!(info.fidelity, c.asked);
        }
    }
}

impl<D: Device> Model<D> {
    fn add(&mut self, object: Object, owner: DomainId) -> usize {
        self.objects.push((object, owner));
        self.live.insert(self.objects.len() - 1);
        self.objects.len() - 1
    }

    fn insert(&mut self, domain: DomainId, handle: Handle, object: usize, rights: Rights, badge: u64, parent: usize) {
        assert!(self.find(domain, handle).is_none(), "{handle} is in use");
        assert!(!self.freed.contains(&(domain, handle)), "{handle} was freed and came back");
        let c = Capability { domain, handle, object, rights, badge, parent: Some(parent) };
        self.capabilities.insert(self.next, c);
        self.next += 1;
    }

    fn account(&mut self, d: DomainId) -> &mut Account {
        self.accounts.get_mut(&d).expect("a domain")
    }

    fn account_of(&mut self, object: usize) -> &mut Account {
        self.account(self.owner(object))
    }

    /// Magic states that interactive qubits took: as many as the model says, or else as the kernel tells.
    fn spend(&mut self, d: DomainId, machine: usize, magic: Option<u64>, call: &Syscall) {
        let total = self.used(d).total_magic;
        let spent = total - self.accounts[&d].magic;
        assert!(magic.is_none_or(|m| m == spent), "{call:?} took {spent} magic states");
        let quota = self.quotas[&d].magic;
        assert!(spent == 0 || self.used(d).magic <= quota, "{call:?} exceeds the quota");
        assert!(spent == 0 || self.within_budget(machine, 0, 0, spent), "{call:?} exceeds a budget");
        self.charge(machine, spent);
        let account = self.account(d);
        account.told += spent;
        account.magic = total;
    }

    fn set_ready(&mut self, qubit: Option<usize>, epoch: u64) {
        if let Some(Object::Qubit { ready_at, .. }) = qubit.map(|q| &mut self.objects[q].0) {
            *ready_at = epoch;
        }
    }

    fn close(&mut self, channel: usize) {
        let c = &mut self.channels[channel];
        if !c.is_open() {
            return;
        }
        let linked = c.state == ChannelState::Linked;
        c.state = ChannelState::Closed;
        let qubits = c.ends.map(|e| e.qubit);
        c.ends.iter_mut().for_each(|e| e.qubit = None);
        if linked {
            qubits.into_iter().for_each(|q| self.set_ready(q, 0));
        }
    }

    /// Removes what derives from `root`, and what dead domains held, until nothing changes.
    fn delete(&mut self, root: usize, too: bool) {
        let mut doomed: BTreeSet<usize> = BTreeSet::from([root]);
        loop {
            let dies = |i: usize| doomed.contains(&i) && (too || i != root);
            let gone: Vec<DomainId> = self
                .live
                .iter()
                .filter_map(|&o| match self.object(o) {
                    Object::Domain(id) => {
                        let alive = self.capabilities.iter().any(|(i, c)| c.object == o && !dies(*i));
                        (!alive).then_some(*id)
                    }
                    _ => None,
                })
                .collect();
            let more: BTreeSet<usize> = self
                .capabilities
                .iter()
                .filter(|(i, c)| {
                    !doomed.contains(i) && (c.parent.is_some_and(|p| doomed.contains(&p)) || gone.contains(&c.domain))
                })
                .map(|(i, _)| *i)
                .collect();
            if more.is_empty() {
                for id in gone {
                    self.quotas.remove(&id);
                }
                break;
            }
            doomed.extend(more);
        }
        if !too {
            doomed.remove(&root);
        }
        let mut named = BTreeSet::new();
        for i in doomed {
            if let Some(c) = self.capabilities.remove(&i) {
                self.freed.insert((c.domain, c.handle));
                named.insert(c.object);
            }
        }
        named.retain(|&o| !self.capabilities.values().any(|c| c.object == o));
        for o in named {
            self.live.remove(&o);
            self.end(o);
        }
    }

    /// What else ends with an object.
    fn end(&mut self, o: usize) {
        match *self.object(o) {
            Object::Qubit { .. } => {
                let of = |c: &Channel| c.ends.iter().any(|e| e.qubit == Some(o));
                if let Some(channel) = self.channels.iter().position(of) {
                    self.close(channel);
                }
                self.account_of(o).version += 1;
            }
            Object::Region(part) => self.shared.take_back(&part),
            Object::Endpoint { channel, .. } => self.close(channel),
            Object::Strand(_) => {
                let cost = self.costs.remove(&o).unwrap_or(0);
                self.account_of(o).told += cost;
            }
            _ => {}
        }
    }

    /// What must hold after every step.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&mut self) {
        self.kernel.audit().unwrap();
        let mut held = 0;
        let mut issued: BTreeMap<DomainId, u64> = BTreeMap::new();
        let strands = self.live_strands();
        for (o, owner, strand) in &strands {
            let s = self.status(*o);
            self.check_strand(strand, &s);
            self.costs.insert(*o, s.magic_states);
            *issued.entry(*owner).or_default() += s.magic_states;
        }
        self.note_checkpoints();
        for (d, quota) in self.quotas.clone() {
            let used = self.used(d);
            let reply = self.kernel.syscall(d, Syscall::Usage);
            assert_eq!(reply, Ok(Reply::Usage { used, quota }), "{d:?}");
            held += used.qubits;
            let within = used.qubits <= quota.qubits
                && used.physical_qubits <= quota.physical_qubits
                && used.strands <= quota.strands
                && used.instructions <= quota.instructions
                && used.slots <= quota.slots
                && used.channels <= quota.channels
                && used.checkpoints <= quota.checkpoints
                && used.magic <= quota.magic
                // A window's last epoch is for all strands of the domain.
                && used.epochs < quota.epochs.saturating_add(quota.strands as u64);
            assert!(within, "{d:?} {used:?} {quota:?}");
            assert!(used.total_magic >= self.accounts[&d].magic, "{d:?} has less magic than before");
            self.account(d).magic = used.total_magic;
            let account = &self.accounts[&d];
            let told = account.told + issued.get(&d).copied().unwrap_or(0);
            assert!(account.inexact || told == used.total_magic, "{d:?} took {told} magic states: {used:?}");
            let mut listed = self.kernel.capabilities(d);
            listed.sort_by_key(|(h, ..)| *h);
            let mut ours: Vec<_> = self.capabilities.values().filter(|c| c.domain == d).collect();
            ours.sort_by_key(|c| c.handle);
            let ours: Vec<_> = ours.iter().map(|c| (c.handle, kind(self.object(c.object)), c.rights)).collect();
            assert_eq!(listed, ours, "{d:?}");
        }
        assert_eq!(held + self.kernel.free_qubits(), self.machine_size, "qubits are conserved");
        let magic: u64 = self.accounts.values().map(|a| a.magic).sum();
        assert!(magic <= self.kernel.epoch() * self.magic_rate, "more magic states than the machine made");
        for c in self.capabilities.values() {
            if let Some(p) = c.parent {
                let parent = self.capabilities.get(&p).expect("a parent outlives its children");
                let made = kind(self.object(parent.object)) != kind(self.object(c.object));
                let far = matches!(self.object(c.object), Object::Endpoint { .. }) && parent.object != c.object;
                assert!(
                    made || far || parent.rights.contains(c.rights),
                    "rights grew from {:?} to {:?}",
                    parent.rights,
                    c.rights
                );
            }
        }
    }

    /// Remembers what strands had cost when they came to a fence. They issue nothing before the next epoch.
    fn note_checkpoints(&mut self) {
        for o in self.live.clone() {
            let Object::Checkpoint(Of::Strand(strand)) = *self.object(o) else { continue };
            let (domain, checkpoint) = self.reader(o);
            let reply = self.kernel.syscall(domain, Syscall::CheckpointStatus { checkpoint });
            if !self.marks.contains_key(&o) && matches!(reply, Ok(Reply::Checkpoint(Some(_)))) {
                let cost = (self.costs[&strand], self.undone.get(&strand).copied().unwrap_or(0));
                self.marks.insert(o, cost);
            }
        }
    }

    fn check_strand(&self, strand: &Strand, s: &StrandStatus) {
        assert!(s.shots_done <= s.shots && s.issued <= s.instructions, "{s:?}");
        assert_eq!((s.shots, s.instructions as usize), (strand.run.shots, strand.image.code.len()));
        assert_eq!(s.fault.is_some(), s.state == StrandState::Faulted, "{s:?}");
        if s.state == StrandState::Done {
            assert_eq!((s.shots_done, s.issued), (s.shots, s.instructions), "{s:?}");
        }
        if let Some(deadline) = strand.run.deadline {
            assert!(s.state != StrandState::Waiting && s.epochs <= deadline / strand.run.shots, "late: {s:?}");
        }
    }

    /// Every handle ever freed is still refused.
    ///
    /// # Panics
    /// If one is not.
    pub fn check_stale(&mut self) {
        for (domain, target) in self.freed.clone() {
            assert!(
                self.kernel.syscall(domain, Syscall::Inspect { target }).is_err(),
                "{domain:?} {target} works again"
            );
        }
    }
}

/// Whether a call must be refused, may succeed, or must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It must be refused.
    Never,
    /// It depends on the schedule.
    Maybe,
    /// It must succeed.
    Always,
}

#[derive(Clone, Debug)]
enum Effect {
    Nothing,
    /// The reply is known to the last bit.
    Exactly(Reply),
    /// A capability to a new object, derived from this one.
    New(usize, Object),
    Spawned(usize, Box<Strand>, u64),
    NewDomain(usize, Quota),
    Derived(Derivation),
    Delete(usize, bool),
    /// A strand takes back what it did, through a machine capability with these rights.
    TakenBack(usize, Rights),
    /// A strand goes back to a checkpoint, at the cost of so many magic states.
    Restored(usize, usize, u64),
    /// Magic states through a machine object, in a number that is known or not.
    Spent {
        machine: usize,
        magic: Option<u64>,
    },
    Freed(usize, Option<usize>),
    Taken(Of),
    Offered(usize, DomainId, usize, f64),
    Accepted(usize, usize),
    Teleported(usize),
    /// Channels with the sides that end at the caller.
    Swapped((usize, usize), (usize, usize)),
    Closed(usize),
    Channel(usize),
}

/// A capability that was derived: its source, its domain and what it allows.
#[derive(Clone, Copy, Debug)]
struct Derivation {
    parent: usize,
    target: DomainId,
    rights: Rights,
    badge: u64,
    budget: Option<Budget>,
}

/// What must come of a call: `None` if it must be refused.
type Expected = Option<(Verdict, Effect)>;

fn always(effect: Effect) -> Expected {
    Some((Verdict::Always, effect))
}

/// The call succeeds for certain if the condition holds, and else as the schedule has it.
fn certain_if(condition: bool, effect: Effect) -> Expected {
    Some((if condition { Verdict::Always } else { Verdict::Maybe }, effect))
}

/// A caller, with its quota and what it uses of it.
#[derive(Clone, Copy, Debug)]
struct Caller {
    domain: DomainId,
    quota: Quota,
    used: DomainUsage,
}

impl Caller {
    fn has_slot(&self) -> bool {
        self.used.slots < self.quota.slots
    }
}
