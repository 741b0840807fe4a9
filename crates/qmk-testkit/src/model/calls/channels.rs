//! Channels between tenants.

use crate::model::object::{Channel, End, Object};
use crate::model::state::Model;
use crate::model::verdict::{Caller, Effect, Expected, always, certain_if};
use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::{ChannelState, ObjectKind};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;

impl<D: Device> Model<D> {
    pub(super) fn expect_offer(
        &mut self,
        caller: &Caller,
        machine: Handle,
        qubit: Handle,
        to: Handle,
        fidelity: f64,
    ) -> Expected {
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

    pub(super) fn apply_offer(
        &mut self,
        d: DomainId,
        parent: usize,
        to: DomainId,
        qubit: usize,
        asked: f64,
        reply: &Reply,
    ) {
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

    pub(super) fn expect_accept(&self, d: DomainId, machine: Handle, endpoint: Handle, qubit: Handle) -> Expected {
        self.allowed(d, machine, ObjectKind::Machine, Rights::USE | Rights::LINK)?;
        let (channel, side) = self.endpoint(d, endpoint, Rights::USE)?;
        let c = &self.channels[channel];
        let mine = side == 1 && c.ends[1].domain == d && c.state == ChannelState::Offered;
        let qubit = self.loose(d, qubit)?;
        mine.then_some(())?;
        let raw = self.kernel.device().spec().link.raw[0];
        certain_if(c.asked <= raw, Effect::Accepted(channel, qubit))
    }

    pub(super) fn apply_accept(&mut self, channel: usize, qubit: usize, reply: &Reply) {
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

    pub(super) fn expect_teleport(&self, d: DomainId, machine: Handle, endpoint: Handle, qubit: Handle) -> Expected {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.allowed(d, machine, ObjectKind::Machine, need)?;
        let (channel, _) = self.half(d, endpoint)?;
        self.loose(d, qubit)?;
        always(Effect::Teleported(channel))
    }

    pub(super) fn apply_teleport(&mut self, channel: usize, reply: &Reply) {
        let Reply::Applied { outcomes, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(outcomes.len(), 2);
        let c = &mut self.channels[channel];
        c.state = ChannelState::Used;
        c.ends.iter_mut().for_each(|e| e.qubit = None);
    }

    pub(super) fn expect_swap(&self, d: DomainId, machine: Handle, endpoints: [Handle; 2]) -> Expected {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.allowed(d, machine, ObjectKind::Machine, need)?;
        let (a, b) = (self.half(d, endpoints[0])?, self.half(d, endpoints[1])?);
        let far = |(channel, side): (usize, usize)| self.channels[channel].ends[1 - side].domain;
        (a.0 != b.0 && far(a) != far(b)).then_some(())?;
        always(Effect::Swapped(a, b))
    }

    pub(super) fn apply_swap(
        &mut self,
        d: DomainId,
        (first, side): (usize, usize),
        (second, other_side): (usize, usize),
    ) {
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

    pub(super) fn expect_close(&self, d: DomainId, endpoint: Handle) -> Expected {
        always(Effect::Closed(self.endpoint(d, endpoint, Rights::CONTROL)?.0))
    }

    pub(super) fn expect_channel_status(&self, d: DomainId, endpoint: Handle) -> Expected {
        always(Effect::Channel(self.endpoint(d, endpoint, Rights::READ)?.0))
    }

    pub(super) fn apply_channel_status(&self, channel: usize, reply: &Reply, call: &Syscall) {
        let &Reply::Channel(info) = reply else { panic!("{reply:?}") };
        let c = &self.channels[channel];
        assert_eq!(info.state, c.state, "{call:?}");
        if c.state == ChannelState::Offered {
            assert_eq!(info.fidelity, c.asked);
        }
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

    fn set_ready(&mut self, qubit: Option<usize>, epoch: u64) {
        if let Some(Object::Qubit { ready_at, .. }) = qubit.map(|q| &mut self.objects[q].0) {
            *ready_at = epoch;
        }
    }

    pub(super) fn close(&mut self, channel: usize) {
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
}
