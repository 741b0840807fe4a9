//! Bounds on what clients may ask of the server.

use std::time::Duration;

/// Bounds on what a client may ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections of a user other than the owner of the machine. Default: a quarter of `connections`.
    pub user_connections: Option<usize>,
    /// Bytes of one message, and of the replies to a batch after which the rest of it is refused.
    pub message_bytes: usize,
    /// Time in which a message that has begun must have come whole, and in which a client must take each mebibyte of
    /// replies.
    pub stall: Duration,
    /// Mode of the socket, which says who may connect.
    pub socket_mode: u32,
    /// Time without a request after which a connection is closed. `None`: it stays open.
    pub idle: Option<Duration>,
    /// Time in which a user without a tenant must show a token or use a session.
    pub greet: Duration,
    /// Whether jobs outlive the server.
    pub keeps: bool,
}

impl Limits {
    pub(crate) fn user_connections(&self) -> usize {
        self.user_connections.unwrap_or_else(|| (self.connections / 4).max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 256,
            user_connections: None,
            message_bytes: 16 << 20,
            stall: Duration::from_secs(30),
            socket_mode: 0o600,
            idle: None,
            greet: Duration::from_secs(10),
            keeps: false,
        }
    }
}
