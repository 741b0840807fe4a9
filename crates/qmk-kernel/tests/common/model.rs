//! What the kernel promises, restated slowly: a flat list of capabilities, each with its parent.

use super::checked::Checked;
use super::images::{admissible, peak};
use qmk_kernel::abi::image::{Image, Op};
use qmk_kernel::abi::syscall::{DomainUsage, ObjectKind, Quota, StrandState};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{DomainId, Kernel};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::{Discriminant, discriminant};

#[derive(Clone, Debug)]
pub enum Object {
    Machine,
    Domain(DomainId),
    Image(Image),
    Strand(Image),
    Qubit,
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

pub struct Model<D = Checked> {
    pub kernel: Kernel<D>,
    pub quotas: BTreeMap<DomainId, Quota>,
    capabilities: BTreeMap<usize, Capability>,
    next: usize,
    /// Each object with the domain whose quota it counts against.
    objects: Vec<(Object, DomainId)>,
    /// Every handle that was ever freed, by domain.
    freed: BTreeSet<(DomainId, Handle)>,
    machine_size: u32,
    /// Calls that succeeded: their name and number.
    pub successes: HashMap<Discriminant<Syscall>, (String, u64)>,
}

fn kind(object: &Object) -> ObjectKind {
    match object {
        Object::Machine => ObjectKind::Machine,
        Object::Domain(_) => ObjectKind::Domain,
        Object::Image(_) => ObjectKind::Image,
        Object::Strand(_) => ObjectKind::Strand,
        Object::Qubit => ObjectKind::Qubit,
    }
}

impl Model {
    pub fn boot(machine_size: u32, quota: Quota) -> (Self, DomainId, Handle) {
        Self::boot_on(Checked::new(machine_size), quota)
    }
}

impl<D: Device> Model<D> {
    pub fn boot_on(device: D, quota: Quota) -> (Self, DomainId, Handle) {
        let machine_size = device.spec().logical_qubits;
        let (kernel, root, machine) = Kernel::boot(device, 1, quota);
        let capability =
            Capability { domain: root, handle: machine, object: 0, rights: Rights::all(), badge: 0, parent: None };
        let model = Model {
            kernel,
            quotas: BTreeMap::from([(root, quota)]),
            capabilities: BTreeMap::from([(0, capability)]),
            next: 1,
            objects: vec![(Object::Machine, root)],
            freed: BTreeSet::new(),
            machine_size,
            successes: HashMap::new(),
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
            freed: self.freed.clone(),
            machine_size: self.machine_size,
            successes: HashMap::new(),
        }
    }

    /// Handles a domain holds, in order.
    pub fn held(&self, domain: DomainId) -> Vec<Handle> {
        let mut handles: Vec<_> = self.capabilities.values().filter(|c| c.domain == domain).map(|c| c.handle).collect();
        handles.sort();
        handles
    }

    pub fn freed(&self) -> Vec<Handle> {
        self.freed.iter().map(|(_, h)| *h).collect()
    }

    /// Every domain that ever was.
    pub fn domains(&self) -> Vec<DomainId> {
        let made = self.objects.iter().filter_map(|(o, _)| if let Object::Domain(d) = o { Some(*d) } else { None });
        std::iter::once(DomainId(0)).chain(made).collect()
    }

    /// Numbers of live capabilities, of objects they name, and of domains.
    pub fn counts(&self) -> [usize; 3] {
        let objects: BTreeSet<usize> = self.capabilities.values().map(|c| c.object).collect();
        [self.capabilities.len(), objects.len(), self.quotas.len()]
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

    /// Whether the model lets this call through.
    pub fn allows(&mut self, d: DomainId, call: &Syscall) -> bool {
        self.expect(d, call).is_some()
    }

    /// What a handle names, if anything.
    pub fn object_of(&self, domain: DomainId, handle: Handle) -> Option<usize> {
        self.find(domain, handle).map(|(_, c)| c.object)
    }

    fn find(&self, domain: DomainId, handle: Handle) -> Option<(usize, &Capability)> {
        self.capabilities.iter().find(|(_, c)| c.domain == domain && c.handle == handle).map(|(i, c)| (*i, c))
    }

    /// Index and rights of a capability of this kind with these rights.
    fn allowed(&self, d: DomainId, handle: Handle, wanted: ObjectKind, need: Rights) -> Option<(usize, Rights)> {
        let (i, c) = self.find(d, handle)?;
        (kind(&self.objects[c.object].0) == wanted && c.rights.contains(need)).then_some((i, c.rights))
    }

    fn object(&self, capability: usize) -> &Object {
        &self.objects[self.capabilities[&capability].object].0
    }

    fn alive(&self, object: usize) -> bool {
        self.capabilities.values().any(|c| c.object == object)
    }

    /// What a domain holds. The kernel decides when strands run, so theirs is read from it.
    fn used(&mut self, domain: DomainId) -> DomainUsage {
        let mut used = DomainUsage { slots: self.held(domain).len() as u32, ..DomainUsage::default() };
        for i in 0..self.objects.len() {
            let (object, owner) = &self.objects[i];
            if *owner != domain || matches!(object, Object::Machine | Object::Domain(_)) || !self.alive(i) {
                continue;
            }
            match object.clone() {
                Object::Image(image) => used.instructions += image.code.len() as u32,
                Object::Strand(image) => {
                    used.strands += 1;
                    used.qubits += if self.runs(i) { peak(&image) } else { 0 };
                }
                Object::Qubit => used.qubits += 1,
                Object::Machine | Object::Domain(_) => {}
            }
        }
        used
    }

    /// Whether a strand holds its qubits, asked through any capability that may read it. Strands that no one may read
    /// are not made by these tests.
    fn runs(&mut self, object: usize) -> bool {
        let reader = self.capabilities.values().find(|c| c.object == object && c.rights.contains(Rights::READ));
        let Some((domain, strand)) = reader.map(|c| (c.domain, c.handle)) else { panic!("an unreadable strand") };
        match self.kernel.syscall(domain, Syscall::Status { strand }) {
            Ok(Reply::Status(s)) => matches!(s.state, StrandState::Running | StrandState::Draining),
            other => panic!("status of a held strand: {other:?}"),
        }
    }

    /// Performs a call on both; the kernel must agree with the model about whether it is allowed, and on its effect.
    pub fn call(&mut self, d: DomainId, call: Syscall) -> Option<Handle> {
        let expected = self.expect(d, &call);
        let reply = self.kernel.syscall(d, call.clone());
        match (&expected, &reply) {
            (None, Err(_)) => None,
            (Some(effect), Ok(reply)) => {
                let name = || format!("{call:?}").split(' ').next().unwrap_or_default().to_string();
                self.successes.entry(discriminant(&call)).or_insert_with(|| (name(), 0)).1 += 1;
                self.apply(d, effect.clone(), reply, &call)
            }
            _ => panic!("{d:?} {call:?}\n  the model expects {expected:?}\n  the kernel replied {reply:?}"),
        }
    }

    fn expect(&mut self, d: DomainId, call: &Syscall) -> Option<Effect> {
        let quota = *self.quotas.get(&d)?;
        let used = self.used(d);
        let slot_free = used.slots < quota.slots;
        match call {
            Syscall::CreateDomain { machine, quota } => {
                let (parent, _) = self.allowed(d, *machine, ObjectKind::Machine, Rights::ADMIN)?;
                slot_free.then_some(Effect::NewDomain(parent, *quota))
            }
            Syscall::Derive { source, rights, badge, into } => {
                let (parent, c) = self.find(d, *source)?;
                let (held, badge) = (c.rights, if c.badge != 0 { c.badge } else { *badge });
                let target = match into {
                    None => d,
                    Some(_) if !held.contains(Rights::GRANT) => return None,
                    Some(into) => match self.allowed(d, *into, ObjectKind::Domain, Rights::CONTROL) {
                        Some((i, _)) => match self.object(i) {
                            Object::Domain(t) => *t,
                            _ => return None,
                        },
                        None => return None,
                    },
                };
                let fits = self.held(target).len() < self.quotas[&target].slots as usize;
                (held.contains(*rights) && fits).then_some(Effect::Derived(parent, target, *rights, badge))
            }
            Syscall::Revoke { target } => self.find(d, *target).map(|(i, _)| Effect::Delete(i, false)),
            Syscall::Delete { target } => self.find(d, *target).map(|(i, _)| Effect::Delete(i, true)),
            Syscall::Inspect { target } => {
                let (i, c) = self.find(d, *target)?;
                let (rights, badge) = (c.rights, c.badge);
                Some(Effect::Exactly(Reply::Capability { kind: kind(self.object(i)), rights, badge }))
            }
            Syscall::Admit { machine, image } => {
                let (parent, rights) = self.allowed(d, *machine, ObjectKind::Machine, Rights::USE)?;
                let fits = used.instructions as usize + image.code.len() <= quota.instructions as usize;
                let fine = slot_free && fits && admissible(image, rights);
                fine.then(|| Effect::New(parent, Object::Image(image.clone())))
            }
            Syscall::Spawn { machine, image, shots, .. } => {
                let (parent, rights) = self.allowed(d, *machine, ObjectKind::Machine, Rights::USE)?;
                let (i, _) = self.allowed(d, *image, ObjectKind::Image, Rights::USE)?;
                let Object::Image(image) = self.object(i).clone() else { return None };
                let classes = image.code.iter().all(|i| rights.contains(i.op.class()));
                let fits = peak(&image) <= quota.qubits.min(self.machine_size) && used.strands < quota.strands;
                (*shots > 0 && slot_free && classes && fits).then_some(Effect::New(parent, Object::Strand(image)))
            }
            Syscall::Status { strand } => {
                self.allowed(d, *strand, ObjectKind::Strand, Rights::READ).map(|_| Effect::Nothing)
            }
            Syscall::Outcomes { strand, first, .. } => {
                self.allowed(d, *strand, ObjectKind::Strand, Rights::READ)?;
                match self.kernel.syscall(d, Syscall::Status { strand: *strand }) {
                    Ok(Reply::Status(s)) => (*first < s.shots_done).then_some(Effect::Nothing),
                    _ => None,
                }
            }
            Syscall::TakeQubit { machine } => {
                let (parent, _) = self.allowed(d, *machine, ObjectKind::Machine, Rights::USE | Rights::ALLOC)?;
                let fits = used.qubits < quota.qubits && self.kernel.free_qubits() > 0;
                (slot_free && fits).then_some(Effect::New(parent, Object::Qubit))
            }
            Syscall::Apply { machine, op, qubits } => {
                self.allowed(d, *machine, ObjectKind::Machine, Rights::USE | op.class())?;
                let mut named = Vec::new();
                for q in op.qubits() {
                    let (i, _) = self.allowed(d, *qubits.get(q as usize)?, ObjectKind::Qubit, Rights::USE)?;
                    named.push(self.capabilities[&i].object);
                }
                let one_space = named.iter().all(|&o| self.objects[o].1 == self.objects[named[0]].1);
                let distinct = (1..named.len()).all(|i| !named[..i].contains(&named[i]));
                let own_call = matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence);
                (one_space && distinct && !own_call && !named.is_empty() && op.angle().is_none_or(f64::is_finite))
                    .then_some(Effect::Nothing)
            }
            Syscall::Usage => Some(Effect::Exactly(Reply::Usage { used, quota })),
        }
    }

    fn apply(&mut self, d: DomainId, effect: Effect, reply: &Reply, call: &Syscall) -> Option<Handle> {
        let handle = if let Reply::Handle(h) = reply { Some(*h) } else { None };
        let insert = |model: &mut Self, domain, object, rights, badge, parent| {
            let handle = handle.expect("a handle");
            assert!(model.find(domain, handle).is_none(), "{handle} is in use");
            assert!(!model.freed.contains(&(domain, handle)), "{handle} was freed and came back");
            let c = Capability { domain, handle, object, rights, badge, parent: Some(parent) };
            model.capabilities.insert(model.next, c);
            model.next += 1;
        };
        match effect {
            Effect::Nothing => {}
            Effect::Exactly(expected) => assert_eq!(*reply, expected, "{call:?}"),
            Effect::New(parent, object) => {
                self.objects.push((object, d));
                insert(self, d, self.objects.len() - 1, Rights::OBJECT, 0, parent);
            }
            Effect::Derived(parent, target, rights, badge) => {
                let object = self.capabilities[&parent].object;
                insert(self, target, object, rights, badge, parent);
            }
            Effect::NewDomain(parent, quota) => {
                let id = self.kernel.domain_of(d, handle?).expect("the new domain");
                assert!(self.quotas.insert(id, quota).is_none(), "{id:?} came back");
                self.objects.push((Object::Domain(id), d));
                insert(self, d, self.objects.len() - 1, Rights::OBJECT, 0, parent);
            }
            Effect::Delete(root, too) => {
                let before = self.capabilities.len();
                self.delete(root, too);
                assert_eq!(*reply, Reply::Deleted((before - self.capabilities.len()) as u32), "{call:?}");
            }
        }
        handle
    }

    /// Removes what derives from `root`, and what dead domains held, until nothing changes.
    fn delete(&mut self, root: usize, too: bool) {
        let mut doomed: BTreeSet<usize> = BTreeSet::from([root]);
        loop {
            let dies = |i: usize| doomed.contains(&i) && (too || i != root);
            let gone: Vec<DomainId> = self
                .objects
                .iter()
                .enumerate()
                .filter_map(|(o, (object, _))| match object {
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
        for i in doomed {
            if let Some(c) = self.capabilities.remove(&i) {
                self.freed.insert((c.domain, c.handle));
            }
        }
    }

    /// What must hold after every step.
    pub fn check(&mut self) {
        let mut held = 0;
        for (d, quota) in self.quotas.clone() {
            let used = self.used(d);
            let reply = self.kernel.syscall(d, Syscall::Usage);
            assert_eq!(reply, Ok(Reply::Usage { used, quota }), "{d:?}");
            held += used.qubits;
            assert!(used.qubits <= quota.qubits && used.strands <= quota.strands, "{d:?} {used:?} {quota:?}");
            assert!(used.instructions <= quota.instructions && used.slots <= quota.slots, "{d:?} {used:?} {quota:?}");
            let mut listed = self.kernel.capabilities(d);
            listed.sort_by_key(|(h, ..)| *h);
            let mut ours: Vec<_> = self.capabilities.values().filter(|c| c.domain == d).collect();
            ours.sort_by_key(|c| c.handle);
            let ours: Vec<_> = ours.iter().map(|c| (c.handle, kind(&self.objects[c.object].0), c.rights)).collect();
            assert_eq!(listed, ours, "{d:?}");
        }
        assert_eq!(held + self.kernel.free_qubits(), self.machine_size, "qubits are conserved");
        for c in self.capabilities.values() {
            if let Some(p) = c.parent {
                let parent = self.capabilities.get(&p).expect("a parent outlives its children");
                let made = parent.object != c.object;
                assert!(
                    made || parent.rights.contains(c.rights),
                    "rights grew from {:?} to {:?}",
                    parent.rights,
                    c.rights
                );
            }
        }
    }

    /// Every handle ever freed is still refused.
    pub fn check_stale(&mut self) {
        for (domain, target) in self.freed.clone() {
            assert!(
                self.kernel.syscall(domain, Syscall::Inspect { target }).is_err(),
                "{domain:?} {target} works again"
            );
        }
    }
}

#[derive(Clone, Debug)]
enum Effect {
    Nothing,
    /// The reply is known to the last bit.
    Exactly(Reply),
    /// A capability to a new object, derived from this one.
    New(usize, Object),
    NewDomain(usize, Quota),
    Derived(usize, DomainId, Rights, u64),
    Delete(usize, bool),
}
