//! Channels between the interactive spaces of two domains.

use crate::interactive::purify::BellWeights;
use qmk_abi::syscall::{ChannelInfo, ChannelState};

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) ends: [ChannelEnd; 2],
    pub(crate) state: ChannelState,
    /// Asked for.
    pub(crate) fidelity: f64,
    pub(crate) weights: BellWeights,
    pub(crate) rounds: u32,
    pub(crate) pairs: u64,
    pub(crate) ready_at: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelEnd {
    pub(crate) domain: u32,
    /// The near half, while the channel needs it.
    pub(crate) register: Option<u32>,
    /// The endpoint object, while it exists.
    pub(crate) object: Option<u32>,
}

impl Channel {
    pub(crate) fn info(&self) -> ChannelInfo {
        let fidelity = if self.state == ChannelState::Offered { self.fidelity } else { self.weights[0] };
        ChannelInfo { state: self.state, fidelity, rounds: self.rounds, pairs: self.pairs, ready_at: self.ready_at }
    }

    pub(crate) fn end(&self, side: u8) -> &ChannelEnd {
        let [offering, accepting] = &self.ends;
        if side == 0 { offering } else { accepting }
    }

    pub(crate) fn end_mut(&mut self, side: u8) -> &mut ChannelEnd {
        let [offering, accepting] = &mut self.ends;
        if side == 0 { offering } else { accepting }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, ChannelState::Offered | ChannelState::Linked | ChannelState::Used)
    }
}
