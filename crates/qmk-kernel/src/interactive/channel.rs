//! Channels between the interactive spaces of two domains.

use crate::ids::{DomainId, ObjectId};
use crate::interactive::purify::BellWeights;
use crate::time::Epoch;
use qmk_abi::syscall::{ChannelInfo, ChannelState};

/// A channel, from its offer until both of its endpoints are gone.
///
/// While it is `Offered`, the offering end has a register. While it is `Linked`, both ends have one, and each of the
/// two registers names the channel and its side. Otherwise neither has one.
#[derive(Debug)]
pub(crate) struct Channel {
    ends: [ChannelEnd; 2],
    pub(crate) state: ChannelState,
    /// Fidelity that was asked for. The pair's own is `weights[0]`.
    pub(crate) fidelity: f64,
    pub(crate) weights: BellWeights,
    /// Rounds of purification.
    pub(crate) rounds: u32,
    /// Raw pairs that it took.
    pub(crate) pairs: u64,
    /// Epoch in which the link has made and purified them.
    pub(crate) ready_at: Epoch,
}

/// Which of the two domains an endpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Offering,
    Accepting,
}

impl Side {
    pub(crate) const BOTH: [Side; 2] = [Side::Offering, Side::Accepting];

    pub(crate) const fn other(self) -> Side {
        match self {
            Side::Offering => Side::Accepting,
            Side::Accepting => Side::Offering,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelEnd {
    pub(crate) domain: DomainId,
    /// The near half, while the channel needs it.
    pub(crate) register: Option<u32>,
    /// The endpoint object, while it exists.
    pub(crate) object: Option<ObjectId>,
}

impl Channel {
    /// A channel on offer, from a register of `offering` to the domain `accepting`.
    pub(crate) fn offered(offering: (DomainId, u32), accepting: DomainId, fidelity: f64) -> Self {
        let (domain, register) = offering;
        Channel {
            ends: [
                ChannelEnd { domain, register: Some(register), object: None },
                ChannelEnd { domain: accepting, register: None, object: None },
            ],
            state: ChannelState::Offered,
            fidelity,
            weights: [0.0; 4],
            rounds: 0,
            pairs: 0,
            ready_at: Epoch::BOOT,
        }
    }

    pub(crate) fn info(&self) -> ChannelInfo {
        let fidelity = if self.state == ChannelState::Offered { self.fidelity } else { self.weights[0] };
        let ready_at = self.ready_at.number();
        ChannelInfo { state: self.state, fidelity, rounds: self.rounds, pairs: self.pairs, ready_at }
    }

    pub(crate) fn end(&self, side: Side) -> &ChannelEnd {
        let [offering, accepting] = &self.ends;
        match side {
            Side::Offering => offering,
            Side::Accepting => accepting,
        }
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut ChannelEnd {
        let [offering, accepting] = &mut self.ends;
        match side {
            Side::Offering => offering,
            Side::Accepting => accepting,
        }
    }

    pub(crate) const fn ends(&self) -> [ChannelEnd; 2] {
        self.ends
    }

    /// Whether it counts against the quotas of both domains.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, ChannelState::Offered | ChannelState::Linked | ChannelState::Used)
    }
}
