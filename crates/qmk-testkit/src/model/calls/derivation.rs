//! Capabilities: derived, looked at, and deleted with all that derives from them.

use crate::model::object::{Channel, Object, kind};
use crate::model::state::Model;
use crate::model::verdict::{Derivation, Effect, Expected, always, handle};
use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::{Budget, ObjectKind};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;
use std::collections::BTreeSet;

impl<D: Device> Model<D> {
    pub(super) fn expect_derive(
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

    pub(super) fn apply_derive(&mut self, d: DomainId, derivation: Derivation, reply: &Reply) {
        let Derivation { parent, target, rights, badge, budget } = derivation;
        let mut object = self.capabilities[&parent].object;
        if let (Some(_), Object::Machine { depth, .. }) = (budget, self.object(object)) {
            let depth = depth + 1;
            object = self.add(Object::Machine { parent: Some(object), depth, budget, magic: 0 }, d);
        }
        self.insert(target, handle(reply), object, rights, badge, parent);
    }

    pub(super) fn expect_inspect(&self, d: DomainId, target: Handle) -> Expected {
        let (_, c) = self.find(d, target)?;
        let (kind, rights, badge) = (kind(self.object(c.object)), c.rights, c.badge);
        always(Effect::Exactly(Reply::Capability { kind, rights, badge }))
    }

    pub(super) fn apply_delete(&mut self, root: usize, too: bool, reply: &Reply, call: &Syscall) {
        let before = self.capabilities.len();
        self.delete(root, too);
        let count = (before - self.capabilities.len()) as u32;
        assert_eq!(*reply, Reply::Deleted { count, more: false }, "{call:?}");
    }

    /// Removes what derives from `root`, and what dead domains held, until nothing changes.
    pub(super) fn delete(&mut self, root: usize, too: bool) {
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
}
