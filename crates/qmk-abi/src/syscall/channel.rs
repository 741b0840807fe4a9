//! State of a channel.

use serde::{Deserialize, Serialize};

/// State of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelState {
    /// Waits for the other side.
    Offered,
    /// Holds a pair.
    Linked,
    /// The pair has been used.
    Used,
    /// Closed by either side.
    Closed,
}

/// Reply to [`Syscall::Accept`](crate::Syscall::Accept) and [`Syscall::ChannelStatus`](crate::Syscall::ChannelStatus).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// State.
    pub state: ChannelState,
    /// Fidelity with the Bell state: asked for while offered, then that of the pair.
    pub fidelity: f64,
    /// Rounds of purification.
    pub rounds: u32,
    /// Raw pairs that go into it, on average.
    pub pairs: u64,
    /// Epoch from which on the pair can be used.
    pub ready_at: u64,
}
