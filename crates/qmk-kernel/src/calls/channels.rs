//! Brokered channels: `Offer`, `Accept`, `Teleport`, `SwapEntanglement`, `CloseChannel`, `ChannelStatus`. They are the
//! one way in which qubits of two domains come to be entangled.
//!
//! A domain may offer a channel to another only if it was given a capability for that domain with `OFFER`, and nothing
//! happens until the other accepts. Accepting makes a raw pair and purifies it by the model of `interactive/purify.rs`;
//! the noise that is left acts on the pair. The endpoint of the side that accepts derives from that of the side that
//! offered, so taking back the one takes the other.

use crate::cap::space::SlotRef;
use crate::errors::{Checked, Result, broken, device_error, lower, refuse, refuse_if};
use crate::ids::{ChannelId, DomainId, ObjectId};
use crate::image::known::Known;
use crate::interactive::channel::{Channel, ChannelEnd, Side};
use crate::interactive::purify::{Purified, purify, swap};
use crate::limits::MAX_PAIRS;
use crate::object::{Object, wrong_kind};
use crate::state::Kernel;
use crate::time::Epoch;
use alloc::vec::Vec;
use qmk_abi::image::{Op, Pauli};
use qmk_abi::syscall::{BadArgument, ChannelState, Limit, NotYet, ObjectKind, Patch, WrongState};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::{Device, Inline};

impl<D: Device> Kernel<D> {
    fn endpoint(&self, caller: DomainId, handle: Handle, need: Rights) -> Result<(ChannelId, Side, &Channel)> {
        let (object, _) = self.require(caller, handle, ObjectKind::Endpoint, need)?;
        match self.object(object)? {
            // A channel is forgotten after the last of its endpoints.
            &Object::Endpoint { channel, side } => Ok((channel, side, self.channels.get(channel)?)),
            _ => Err(wrong_kind().into()),
        }
    }

    /// The register that is the near half of a linked channel whose pair is ready, if it belongs to the caller.
    fn ready_half(&self, caller: DomainId, handle: Handle) -> Result<(ChannelId, Side, u32)> {
        let (id, side, channel) = self.endpoint(caller, handle, Rights::USE)?;
        // An endpoint may have been granted on. It then tells the state of the channel, and gives no way to the qubit.
        let near = channel.end(side);
        if near.domain != caller {
            return refuse(WrongState::FarEndpoint);
        }
        match (channel.state, near.register) {
            (ChannelState::Linked, Some(_)) if channel.ready_at > self.epoch => refuse(NotYet::PairPending),
            (ChannelState::Linked, Some(register)) => Ok((id, side, register)),
            (ChannelState::Offered, _) => refuse(NotYet::NotAccepted),
            (ChannelState::Used, _) => refuse(WrongState::PairUsed),
            _ => refuse(WrongState::ChannelClosed),
        }
    }

    /// The register of a qubit that the caller owns and that is in no channel.
    fn unlinked_qubit(&self, caller: DomainId, handle: Handle) -> Result<u32> {
        let (_, qubit) = self.qubit(caller, handle, Rights::USE)?;
        if qubit.owner != caller {
            return refuse(BadArgument::FarQubit);
        }
        if self.register(caller, qubit.register)?.channel.is_some() {
            return refuse(WrongState::QubitLinked);
        }
        Ok(qubit.register)
    }

    /// Offers a channel between a qubit of the caller and the domain `to`. Returns [`Reply::Offered`]: the caller's
    /// endpoint, and the other domain's handle of the invitation.
    ///
    /// # Errors
    /// The caller may not offer to that domain, the qubit is not its own or in a channel already, or a quota
    /// is used up.
    pub(crate) fn offer(
        &mut self,
        caller: DomainId,
        machine: Handle,
        qubit: Handle,
        to: Handle,
        fidelity: f64,
    ) -> Result<Reply> {
        self.require(caller, machine, ObjectKind::Machine, Rights::USE | Rights::LINK)?;
        let register = self.unlinked_qubit(caller, qubit)?;
        let other = self.named_domain(caller, to, Rights::OFFER)?;
        if other == caller {
            return refuse(BadArgument::OneDomain);
        }
        check_fidelity(fidelity)?;
        self.check_slots(caller)?;
        self.check_slots(other)?;
        for domain in [caller, other] {
            let domain = self.domains.get(domain)?;
            refuse_if(domain.used.channels >= domain.quota.channels, KernelError::Quota(Limit::Channels))?;
        }
        let channel = self.channels.insert(Channel::offered((caller, register), other, fidelity));
        let near = Object::Endpoint { channel, side: Side::Offering };
        let (near, endpoint) = self.create_object(caller, near, ObjectKind::Endpoint, machine)?;
        let far = self.add_object(Object::Endpoint { channel, side: Side::Accepting });
        let parent = SlotRef { domain: caller, slot: endpoint.slot };
        // An invitation is for one domain and is not passed on.
        let rights = Rights::OBJECT - Rights::GRANT;
        let invitation = self.insert_capability(other, far, ObjectKind::Endpoint, rights, 0, Some(parent))?;
        let offered = self.channels.get_mut(channel)?;
        offered.end_mut(Side::Offering).object = Some(near);
        offered.end_mut(Side::Accepting).object = Some(far);
        self.register_mut(caller, register)?.channel = Some((channel, Side::Offering));
        for domain in [caller, other] {
            self.domains.get_mut(domain)?.used.channels += 1;
        }
        Ok(Reply::Offered { endpoint, invitation })
    }

    /// A closed channel no longer counts against a domain's quota.
    fn uncount_channel(&mut self, domain: DomainId) -> Checked {
        let used = &mut self.domains.get_mut(domain)?.used;
        lower(&mut used.channels, 1, "a domain has more channels than its account")
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
            Ok(_) => refuse(BadArgument::TooManyPairs),
            Err(best) => Err(KernelError::Fidelity { asked, raw: raw[0], best }),
        }
    }

    /// Accepts a channel with a qubit of the caller: entangles the two qubits and orders the raw pairs. Returns
    /// [`Reply::Channel`], with the epoch in which the pair is ready.
    ///
    /// # Errors
    /// The channel is not on offer to the caller, its fidelity cannot be reached, too many pairs are ordered
    /// already, or the device refuses the pair.
    pub(crate) fn accept(
        &mut self,
        caller: DomainId,
        machine: Handle,
        endpoint: Handle,
        qubit: Handle,
    ) -> Result<Reply> {
        self.require(caller, machine, ObjectKind::Machine, Rights::USE | Rights::LINK)?;
        let (id, side, channel) = self.endpoint(caller, endpoint, Rights::USE)?;
        if side != Side::Accepting || channel.end(side).domain != caller {
            return refuse(WrongState::NotInvited);
        }
        if channel.state != ChannelState::Offered {
            return refuse(WrongState::NotOffered);
        }
        let (asked, offering) = (channel.fidelity, *channel.end(Side::Offering));
        let far = offering.register.ok_or_else(|| broken("a channel on offer has no qubit"))?;
        let register = self.unlinked_qubit(caller, qubit)?;
        let purified = self.purified(asked)?;
        let ready_at = self.order_pairs(offering.domain, caller, purified.pairs)?;
        let (a, b) = (self.interactive(offering.domain)?.space, self.interactive(caller)?.space);
        let [_, x, y, z] = purified.weights;
        self.device.link((a, far), (b, register), [x, y, z]).map_err(device_error)?;
        // The pair exists from here on. It counts as made when the link has made and purified its raw pairs.
        self.pairs_due += purified.pairs;
        for (domain, register) in [(offering.domain, far), (caller, register)] {
            // The pair is no operation of either domain, so operations before it cannot be undone any more.
            self.interactive_mut(domain)?.segment.clear();
            let r = self.register_mut(domain, register)?;
            r.known = Known::Unknown;
            r.ready_at = ready_at;
            r.busy_until = r.busy_until.max(ready_at);
        }
        self.register_mut(caller, register)?.channel = Some((id, Side::Accepting));
        for domain in [offering.domain, caller] {
            let domain = self.domains.get_mut(domain)?;
            domain.used.total_pairs = domain.used.total_pairs.saturating_add(purified.pairs);
            domain.qubits_version += 1;
            domain.link_until = ready_at;
        }
        let channel = self.channels.get_mut(id)?;
        channel.end_mut(Side::Accepting).register = Some(register);
        channel.state = ChannelState::Linked;
        channel.weights = purified.weights;
        (channel.rounds, channel.pairs, channel.ready_at) = (purified.rounds, purified.pairs, ready_at);
        Ok(Reply::Channel(channel.info()))
    }

    /// The epoch in which the link would have made `pairs` more raw pairs, after those that are due.
    ///
    /// # Errors
    /// One of the two domains has ordered so many that it would keep others from the link: more than one
    /// channel may take.
    fn order_pairs(&self, offering: DomainId, accepting: DomainId, pairs: u64) -> Result<Epoch> {
        let rate = self.device.spec().link.pairs_per_epoch.max(1) as u64;
        let latest = self.domains.get(offering)?.link_until.max(self.domains.get(accepting)?.link_until);
        if latest > self.epoch.plus(MAX_PAIRS.div_ceil(rate)) {
            return refuse(NotYet::PairsOrdered);
        }
        Ok(self.epoch.plus((self.pairs_due + pairs).div_ceil(rate)))
    }

    /// Measures two qubits of one domain in the Bell basis, leaving both in |0>, and corrects the far qubit. Returns
    /// the outcomes and the epoch in which the measurement is over. Only the measurement can be refused.
    fn measure_bell(
        &mut self,
        caller: DomainId,
        [state, half]: [u32; 2],
        far: (DomainId, u32),
    ) -> Result<(Vec<bool>, Epoch)> {
        let measurement = Op::MeasureBell(state, half, 0, 1);
        let outcomes = self.perform(caller, measurement)?;
        self.perform(caller, Op::Reset(state))?;
        self.perform(caller, Op::Reset(half))?;
        let cycles = self.device.cost(&measurement, Patch::default()).cycles;
        let until = self.mark_busy(caller, &[state, half], cycles)?;
        let &[z, x] = &outcomes[..] else { return Err(broken("a Bell measurement has two outcomes").into()) };
        let (domain, register) = far;
        for (flip, pauli) in [(x, Pauli::X), (z, Pauli::Z)] {
            if flip {
                self.perform(domain, Op::Pauli(pauli, register))?;
            }
        }
        // The far qubit was changed by no operation of its owner, whose earlier ones cannot be undone any more.
        self.interactive_mut(domain)?.segment.clear();
        let r = self.register_mut(domain, register)?;
        r.busy_until = r.busy_until.max(until);
        Ok((outcomes, until))
    }

    /// Teleports the state of a qubit to the far half, which uses the pair up. Returns [`Reply::Applied`].
    ///
    /// # Errors
    /// The pair is not ready or not the caller's, or the qubit is half of a channel.
    pub(crate) fn teleport(
        &mut self,
        caller: DomainId,
        machine: Handle,
        endpoint: Handle,
        qubit: Handle,
    ) -> Result<Reply> {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.require(caller, machine, ObjectKind::Machine, need)?;
        let (id, side, near) = self.ready_half(caller, endpoint)?;
        let state = self.unlinked_qubit(caller, qubit)?;
        let far = linked_half(self.channels.get(id)?.end(side.other()))?;
        let (outcomes, until) = self.measure_bell(caller, [state, near], far)?;
        self.unlink_halves(id)?;
        self.channels.get_mut(id)?.state = ChannelState::Used;
        Ok(Reply::Applied { outcomes, until: until.number() })
    }

    /// From here on, the halves of a channel's pair are qubits like any others.
    fn unlink_halves(&mut self, id: ChannelId) -> Checked {
        let channel = self.channels.get_mut(id)?;
        let ends = channel.ends();
        Side::BOTH.into_iter().for_each(|side| channel.end_mut(side).register = None);
        for end in ends {
            if let Some(register) = end.register {
                self.register_mut(end.domain, register)?.channel = None;
            }
        }
        Ok(())
    }

    /// Joins two channels that end at the caller into one between their far sides. The second endpoint of the caller,
    /// and the first, are left with a closed channel. Returns [`Reply::Applied`].
    ///
    /// # Errors
    /// A pair is not ready or not the caller's, or both channels lead to the same domain.
    pub(crate) fn swap_entanglement(
        &mut self,
        caller: DomainId,
        machine: Handle,
        endpoints: [Handle; 2],
    ) -> Result<Reply> {
        let need = Rights::USE | Rights::LINK | Rights::TELEPORT;
        self.require(caller, machine, ObjectKind::Machine, need)?;
        let (first, side, near) = self.ready_half(caller, endpoints[0])?;
        let (second, other_side, other_near) = self.ready_half(caller, endpoints[1])?;
        if first == second {
            return refuse(BadArgument::OneChannel);
        }
        let (a, b) = (self.channels.get(first)?, self.channels.get(second)?);
        let (far, other_far) = (*a.end(side.other()), *b.end(other_side.other()));
        if far.domain == other_far.domain {
            return refuse(BadArgument::SameFarDomain);
        }
        // The joined pair took the raw pairs of both, and as many rounds as the longer of the two.
        let weights = swap(&a.weights, &b.weights);
        let pairs = a.pairs + b.pairs;
        let rounds = a.rounds.max(b.rounds);
        let target = linked_half(&other_far)?;
        let (outcomes, until) = self.measure_bell(caller, [near, other_near], target)?;
        for register in [near, other_near] {
            self.register_mut(caller, register)?.channel = None;
        }
        // The far side of the second channel takes the caller's place in the first.
        let a = self.channels.get_mut(first)?;
        let mine = core::mem::replace(a.end_mut(side), other_far).object;
        (a.weights, a.pairs, a.rounds) = (weights, pairs, rounds);
        self.register_mut(target.0, target.1)?.channel = Some((first, side));
        // What is left of the second is the caller's alone, with both of its endpoints, and closed.
        let b = self.channels.get_mut(second)?;
        let mine = [mine, b.end(other_side).object];
        for (side, object) in Side::BOTH.into_iter().zip(mine) {
            *b.end_mut(side) = ChannelEnd { domain: caller, register: None, object };
        }
        b.state = ChannelState::Closed;
        self.retarget_endpoint(other_far.object, first, side)?;
        self.retarget_endpoint(mine[0], second, Side::Offering)?;
        self.retarget_endpoint(mine[1], second, Side::Accepting)?;
        self.uncount_channel(caller)?;
        self.uncount_channel(caller)?;
        Ok(Reply::Applied { outcomes, until: until.number() })
    }

    /// Makes an endpoint object name another channel or side. `None` is an endpoint that was deleted.
    fn retarget_endpoint(&mut self, object: Option<ObjectId>, channel: ChannelId, side: Side) -> Checked {
        if let Some(object) = object {
            self.objects.get_mut(object)?.object = Object::Endpoint { channel, side };
        }
        Ok(())
    }

    /// # Errors
    /// The endpoint lacks `CONTROL`.
    pub(crate) fn close_channel(&mut self, caller: DomainId, endpoint: Handle) -> Result<Reply> {
        let (id, ..) = self.endpoint(caller, endpoint, Rights::CONTROL)?;
        self.close_if_open(id)?;
        Ok(Reply::Done)
    }

    /// Returns [`Reply::Channel`].
    ///
    /// # Errors
    /// The endpoint lacks `READ`.
    pub(crate) fn channel_status(&self, caller: DomainId, endpoint: Handle) -> Result<Reply> {
        let (_, _, channel) = self.endpoint(caller, endpoint, Rights::READ)?;
        Ok(Reply::Channel(channel.info()))
    }

    /// Closes a channel. The halves of a pair that was not used are reset, which ends their entanglement.
    fn close_if_open(&mut self, id: ChannelId) -> Checked {
        let channel = self.channels.get_mut(id)?;
        if !channel.is_open() {
            return Ok(());
        }
        let linked = channel.state == ChannelState::Linked;
        channel.state = ChannelState::Closed;
        let ends = channel.ends();
        self.unlink_halves(id)?;
        for end in ends {
            if let (true, Some(register)) = (linked, end.register) {
                // The device refuses only if the space has failed, and its entanglement with it.
                let _ = self.try_perform(end.domain, Op::Reset(register))?;
                self.register_mut(end.domain, register)?.ready_at = Epoch::BOOT;
            }
            self.uncount_channel(end.domain)?;
        }
        Ok(())
    }

    /// A qubit is about to be freed. A channel that it is half of has no pair any more.
    pub(crate) fn close_channel_of(&mut self, owner: DomainId, register: u32) -> Checked {
        match self.register(owner, register)?.channel {
            Some((channel, _)) => self.close_if_open(channel),
            None => Ok(()),
        }
    }

    /// An endpoint object is gone. That closes the channel, which is forgotten with its last endpoint.
    pub(crate) fn drop_endpoint(&mut self, id: ChannelId, side: Side) -> Checked {
        self.close_if_open(id)?;
        let channel = self.channels.get_mut(id)?;
        channel.end_mut(side).object = None;
        if channel.ends().iter().all(|e| e.object.is_none()) {
            self.channels.remove(id)?;
        }
        Ok(())
    }
}

/// Domain and register of an end whose channel is linked.
fn linked_half(end: &ChannelEnd) -> Checked<(DomainId, u32)> {
    let register = end.register.ok_or_else(|| broken("a linked channel has an end without a qubit"))?;
    Ok((end.domain, register))
}

fn check_fidelity(fidelity: f64) -> Result<()> {
    // Written so that NaN fails.
    if fidelity > 0.25 && fidelity <= 1.0 { Ok(()) } else { refuse(BadArgument::Fidelity) }
}
