//! Errors of a client.

use qmk_abi::rpc::{ErrorCode, Reply, RpcError};

/// Errors of a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The machine refused the request.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// The connection failed.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// The other side does not speak the protocol.
    #[error("protocol: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The machine's error code, if it was the machine that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Rpc(e) => Some(e.code),
            _ => None,
        }
    }
}

pub(crate) fn unexpected<T>(reply: Reply) -> Result<T, ClientError> {
    Err(ClientError::Protocol(format!("unexpected reply {reply:?}")))
}
