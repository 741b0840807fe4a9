//! Which calls are allowed.

use super::model::{Model, Thing};
use qmk_kernel::abi::syscall::ChannelState;
use qmk_kernel::abi::{Handle, Rights, Syscall};

const LINK: Rights = Rights::USE.union(Rights::LINK);

impl Model {
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

    /// The channel and side of an endpoint whose pair the domain can use now.
    fn pair(&self, d: usize, handle: Handle) -> Option<(usize, usize)> {
        let (c, side) = self.end(d, handle, Rights::USE)?;
        let channel = &self.channels[c];
        let usable = channel.state == ChannelState::Linked && channel.ready && channel.domains[side] == d;
        usable.then_some((c, side))
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
}
