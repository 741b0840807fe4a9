//! Brokered channels: the one way in which qubits of two domains come to be entangled.
//!
//! A domain may offer a channel to another only if it was given a capability for that domain with `OFFER`, and nothing
//! happens until the other accepts. Accepting makes a raw pair and purifies it by a stated model (`purify`); what noise is left acts
//! on the pair. The endpoint of the side that accepts derives from that of the side that offered: taking back the one takes the other.

use crate::cap::space::SlotRef;
use crate::domain::Domain;
use crate::errors::{Result, argument, device_error, not_now, not_ready};
use crate::interactive::channel::{Channel, ChannelEnd};
use crate::interactive::purify::{Purified, purify, swap};
use crate::limits::MAX_PAIRS;
use crate::object::{Entry, Object};
use crate::state::Kernel;
use qmk_abi::image::{Op, Pauli};
use qmk_abi::syscall::{ChannelState, Limit, ObjectKind, Patch};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    fn endpoint(&self, d: u32, handle: Handle, need: Rights) -> Result<(u32, u8, &Channel)> {
        let (id, _) = self.require(d, handle, ObjectKind::Endpoint, need)?;
        match self.object(id) {
            &Object::Endpoint { channel, side } => match self.channels.get(channel) {
                Some(c) => Ok((channel, side, c)),
                None => not_now("the channel is gone"),
            },
            _ => not_now("the channel is gone"),
        }
    }

    /// The near half of a linked channel that is ready, if it belongs to `d`.
    fn ready_half(&self, d: u32, handle: Handle) -> Result<(u32, u8, u32)> {
        let (id, side, channel) = self.endpoint(d, handle, Rights::USE)?;
        let near = channel.end(side);
        if near.domain != d {
            return not_now("the endpoint belongs to another domain's qubit");
        }
        match (channel.state, near.register) {
            (ChannelState::Linked, Some(_)) if channel.ready_at > self.epoch => not_ready("the pair is not ready"),
            (ChannelState::Linked, Some(register)) => Ok((id, side, register)),
            (ChannelState::Offered, _) => not_ready("the channel has not been accepted"),
            (ChannelState::Used, _) => not_now("the pair has been used"),
            _ => not_now("the channel is closed"),
        }
    }

    /// A qubit of the caller's own that is in no channel.
    fn unlinked_qubit(&self, d: u32, handle: Handle) -> Result<u32> {
        let (_, qubit) = self.qubit(d, handle, Rights::USE)?;
        if qubit.owner != d {
            return argument("the qubit lies in another domain's space");
        }
        match self.register(d, qubit.register) {
            Some(r) if r.channel.is_some() => not_now("the qubit is half of another channel"),
            _ => Ok(qubit.register),
        }
    }

    pub(crate) fn offer(&mut self, d: u32, machine: Handle, qubit: Handle, to: Handle, fidelity: f64) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::USE | Rights::LINK)?;
        let register = self.unlinked_qubit(d, qubit)?;
        let (object, _) = self.require(d, to, ObjectKind::Domain, Rights::OFFER)?;
        let &Object::Domain(other) = self.object(object) else { return not_now("the domain is gone") };
        if other == d {
            return argument("a channel joins two domains");
        }
        check_fidelity(fidelity)?;
        self.check_slots(d)?;
        self.check_slots(other)?;
        for domain in [d, other] {
            if self.domain(domain).is_none_or(|d| d.used.channels >= d.quota.channels) {
                return Err(KernelError::Quota(Limit::Channels));
            }
        }
        let end = |domain, register| ChannelEnd { domain, register, object: None };
        let channel = self.channels.insert(Channel {
            ends: [end(d, Some(register)), end(other, None)],
            state: ChannelState::Offered,
            fidelity,
            weights: [0.0; 4],
            rounds: 0,
            pairs: 0,
            ready_at: 0,
        });
        let near = Object::Endpoint { channel, side: 0 };
        let (near, endpoint) = self.create_object(d, near, ObjectKind::Endpoint, machine)?;
        let far = self.add_object(Object::Endpoint { channel, side: 1 });
        let parent = SlotRef { domain: d, slot: endpoint.slot };
        let rights = Rights::OBJECT - Rights::GRANT;
        let invitation = self.insert(other, far, ObjectKind::Endpoint, rights, 0, Some(parent));
        let Some(invitation) = invitation else { return Err(KernelError::NoCapability) };
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.end_mut(0).object = Some(near);
            channel.end_mut(1).object = Some(far);
        }
        if let Some(r) = self.register_mut(d, register) {
            r.channel = Some((channel, 0));
        }
        self.count(&[d, other], |domain| domain.used.channels += 1);
        Ok(Reply::Offered { endpoint, invitation })
    }

    fn count(&mut self, domains: &[u32], f: impl Fn(&mut Domain)) {
        for &domain in domains {
            if let Some(domain) = self.domain_mut(domain) {
                f(domain);
            }
        }
    }

    /// Whether a channel can have this fidelity.
    ///
    /// # Errors
    /// As accepting it would fail.
    pub fn reachable(&self, fidelity: f64) -> Result<()> {
        check_fidelity(fidelity)?;
        self.purified(fidelity).map(drop)
    }

    fn purified(&self, asked: f64) -> Result<Purified> {
        let raw = self.device.spec().link.raw;
        match purify(raw, asked) {
            Ok(p) if p.pairs <= MAX_PAIRS => Ok(p),
            Ok(_) => argument("the fidelity takes more raw pairs than one channel may have"),
            Err(best) => Err(KernelError::Fidelity { asked, raw: raw[0], best }),
        }
    }

    pub(crate) fn accept(&mut self, d: u32, machine: Handle, endpoint: Handle, qubit: Handle) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::USE | Rights::LINK)?;
        let (id, side, channel) = self.endpoint(d, endpoint, Rights::USE)?;
        if side != 1 || channel.end(1).domain != d {
            return not_now("only the domain that the channel was offered to can accept it");
        }
        if channel.state != ChannelState::Offered {
            return not_now("the channel is not on offer");
        }
        let (asked, offering) = (channel.fidelity, *channel.end(0));
        let Some(far) = offering.register else { return not_now("the channel is closed") };
        let register = self.unlinked_qubit(d, qubit)?;
        let purified = self.purified(asked)?;
        // No one orders so many that others wait for ever.
        let rate = self.device.spec().link.pairs_per_epoch.max(1) as u64;
        let latest = |domain| self.domain(domain).map_or(0, |d| d.link_until);
        if latest(d).max(latest(offering.domain)) > self.epoch + MAX_PAIRS.div_ceil(rate) {
            return not_ready("pairs that were ordered before are still being made");
        }
        let (Some(a), Some(b)) = (self.space_of(offering.domain), self.space_of(d)) else {
            return not_now("the channel is closed");
        };
        let [_, x, y, z] = purified.weights;
        self.device.link((a, far), (b, register), [x, y, z]).map_err(device_error)?;
        self.pairs_due += purified.pairs;
        let ready_at = self.epoch + self.pairs_due.div_ceil(rate);
        for (domain, register) in [(offering.domain, far), (d, register)] {
            self.forget_history(domain);
            if let Some(r) = self.register_mut(domain, register) {
                r.known = Default::default();
                r.ready_at = ready_at;
                r.busy_until = r.busy_until.max(ready_at);
            }
        }
        if let Some(r) = self.register_mut(d, register) {
            r.channel = Some((id, 1));
        }
        self.count(&[offering.domain, d], |domain| {
            domain.used.total_pairs = domain.used.total_pairs.saturating_add(purified.pairs);
            domain.qubits_version += 1;
            domain.link_until = ready_at;
        });
        let Some(channel) = self.channels.get_mut(id) else { return not_now("the channel is gone") };
        channel.end_mut(1).register = Some(register);
        channel.state = ChannelState::Linked;
        channel.weights = purified.weights;
        (channel.rounds, channel.pairs, channel.ready_at) = (purified.rounds, purified.pairs, ready_at);
        Ok(Reply::Channel(channel.info()))
    }

    fn space_of(&self, domain: u32) -> Option<qmk_hal::SpaceId> {
        self.domain(domain)?.interactive.as_ref().map(|i| i.space)
    }

    /// What was done to a domain's qubits cannot be undone past this point.
    fn forget_history(&mut self, domain: u32) {
        if let Some(interactive) = self.domain_mut(domain).and_then(|d| d.interactive.as_mut()) {
            interactive.segment.clear();
        }
    }

    /// Measures two qubits of one domain in the Bell basis, leaving both in |0>, and corrects the far qubit. Only the
    /// measurement can be refused.
    fn measure_bell(
        &mut self,
        d: u32,
        state: u32,
        half: u32,
        far: Option<(u32, u32)>,
    ) -> Result<(alloc::vec::Vec<bool>, u64)> {
        let outcomes = self.perform(d, Op::MeasureBell(state, half, 0, 1))?;
        self.perform(d, Op::Reset(state))?;
        self.perform(d, Op::Reset(half))?;
        let cycles = self.device.cost(&Op::MeasureBell(state, half, 0, 1), Patch::default()).cycles;
        let until = self.mark_busy(d, &[state, half], cycles);
        if let (Some((domain, register)), [z, x]) = (far, &outcomes[..]) {
            for (flip, pauli) in [(*x, Pauli::X), (*z, Pauli::Z)] {
                if flip {
                    self.perform(domain, Op::Pauli(pauli, register))?;
                }
            }
            self.forget_history(domain);
            if let Some(r) = self.register_mut(domain, register) {
                r.busy_until = r.busy_until.max(until);
            }
        }
        Ok((outcomes, until))
    }

    pub(crate) fn teleport(&mut self, d: u32, machine: Handle, endpoint: Handle, qubit: Handle) -> Result<Reply> {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.require(d, machine, ObjectKind::Machine, need)?;
        let (id, side, near) = self.ready_half(d, endpoint)?;
        let state = self.unlinked_qubit(d, qubit)?;
        let far = self.channels.get(id).map(|c| *c.end(1 - side));
        let far = far.and_then(|f| Some((f.domain, f.register?)));
        let (outcomes, until) = self.measure_bell(d, state, near, far)?;
        self.unlink_halves(id);
        if let Some(channel) = self.channels.get_mut(id) {
            channel.state = ChannelState::Used;
        }
        Ok(Reply::Applied { outcomes, until })
    }

    /// The halves of a channel's pair are qubits like any others from here on.
    fn unlink_halves(&mut self, id: u32) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let ends = channel.ends;
        channel.ends.iter_mut().for_each(|e| e.register = None);
        for end in ends {
            if let Some(r) = end.register.and_then(|r| self.register_mut(end.domain, r)) {
                r.channel = None;
            }
        }
    }

    pub(crate) fn swap_entanglement(&mut self, d: u32, machine: Handle, endpoints: [Handle; 2]) -> Result<Reply> {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.require(d, machine, ObjectKind::Machine, need)?;
        let (first, side, near) = self.ready_half(d, endpoints[0])?;
        let (second, other_side, other_near) = self.ready_half(d, endpoints[1])?;
        if first == second {
            return argument("the endpoints are those of one channel");
        }
        let (Some(a), Some(b)) = (self.channels.get(first), self.channels.get(second)) else {
            return not_now("the channel is gone");
        };
        let (far, other_far) = (*a.end(1 - side), *b.end(1 - other_side));
        if far.domain == other_far.domain {
            return argument("both channels lead to the same domain");
        }
        let weights = swap(&a.weights, &b.weights);
        let pairs = a.pairs + b.pairs;
        let rounds = a.rounds.max(b.rounds);
        let target = other_far.register.map(|r| (other_far.domain, r));
        let (outcomes, until) = self.measure_bell(d, near, other_near, target)?;
        for register in [near, other_near] {
            if let Some(r) = self.register_mut(d, register) {
                r.channel = None;
            }
        }
        // The far side of the second channel takes the caller's place in the first, and what is left of the second is the
        // caller's alone.
        let mut mine = [None; 2];
        if let Some(a) = self.channels.get_mut(first) {
            mine[0] = core::mem::replace(a.end_mut(side), other_far).object;
            (a.weights, a.pairs, a.rounds) = (weights, pairs, rounds);
        }
        if let Some(b) = self.channels.get_mut(second) {
            mine[1] = b.end(other_side).object;
            b.ends = mine.map(|object| ChannelEnd { domain: d, register: None, object });
            b.state = ChannelState::Closed;
        }
        if let Some(register) = other_far.register.and_then(|r| self.register_mut(other_far.domain, r)) {
            register.channel = Some((first, side));
        }
        self.retarget_endpoint(other_far.object, first, side);
        self.retarget_endpoint(mine[0], second, 0);
        self.retarget_endpoint(mine[1], second, 1);
        self.count(&[d, d], |domain| domain.used.channels -= 1);
        Ok(Reply::Applied { outcomes, until })
    }

    fn retarget_endpoint(&mut self, object: Option<u32>, channel: u32, side: u8) {
        if let Some(Entry { object: Object::Endpoint { channel: c, side: s }, .. }) =
            object.and_then(|o| self.objects.get_mut(o))
        {
            (*c, *s) = (channel, side);
        }
    }

    pub(crate) fn close_channel(&mut self, d: u32, endpoint: Handle) -> Result<Reply> {
        let (id, ..) = self.endpoint(d, endpoint, Rights::CONTROL)?;
        self.close_if_open(id);
        Ok(Reply::Done)
    }

    pub(crate) fn channel_status(&self, d: u32, endpoint: Handle) -> Result<Reply> {
        let (_, _, channel) = self.endpoint(d, endpoint, Rights::READ)?;
        Ok(Reply::Channel(channel.info()))
    }

    /// Closes a channel. The halves of a pair that was not used are reset, which ends their entanglement.
    fn close_if_open(&mut self, id: u32) {
        let Some(channel) = self.channels.get_mut(id).filter(|c| c.is_open()) else { return };
        let linked = channel.state == ChannelState::Linked;
        channel.state = ChannelState::Closed;
        let ends = channel.ends;
        self.unlink_halves(id);
        for end in ends {
            if let (true, Some(register)) = (linked, end.register) {
                // The only failure is a space that is gone, and its entanglement with it.
                let _ = self.perform(end.domain, Op::Reset(register));
                if let Some(r) = self.register_mut(end.domain, register) {
                    r.ready_at = 0;
                }
            }
            self.count(&[end.domain], |domain| domain.used.channels -= 1);
        }
    }

    /// A qubit is about to be freed: a channel that it is half of has no pair any more.
    pub(crate) fn close_channel_of(&mut self, owner: u32, register: u32) {
        if let Some((channel, _)) = self.register(owner, register).and_then(|r| r.channel) {
            self.close_if_open(channel);
        }
    }

    /// An endpoint is no longer named by anyone. That closes the channel, which is forgotten with its last endpoint.
    pub(crate) fn drop_endpoint(&mut self, id: u32, side: u8) {
        self.close_if_open(id);
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.end_mut(side).object = None;
        if channel.ends.iter().all(|e| e.object.is_none()) {
            self.channels.remove(id);
        }
    }
}

fn check_fidelity(fidelity: f64) -> Result<()> {
    // Written so that NaN fails.
    if fidelity > 0.25 && fidelity <= 1.0 { Ok(()) } else { argument("the fidelity must be above 1/4 and at most 1") }
}
