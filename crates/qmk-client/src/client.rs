//! A connection to a machine.

use crate::error::ClientError;
use crate::socket::Socket;
use qmk_abi::rpc::{Endpoint, Reply, Request, RpcError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection to a machine.
#[derive(Clone)]
pub struct Client {
    pub(crate) endpoint: Arc<dyn Endpoint>,
    pub(crate) patience: Duration,
}

impl Client {
    /// Connects to a server's socket: `PATH` or `unix:PATH`.
    ///
    /// # Errors
    /// If nothing listens there.
    pub fn connect(path: &str) -> Result<Client, ClientError> {
        Ok(Client::over(Socket::connect(path.strip_prefix("unix:").unwrap_or(path))?))
    }

    /// A client of any endpoint, such as a machine in the same process.
    pub fn over(endpoint: impl Endpoint + 'static) -> Client {
        Client { endpoint: Arc::new(endpoint), patience: Duration::ZERO }
    }

    /// A client that asks again for so long where the machine answers that it was asked too often.
    pub fn patient(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// Performs a raw request.
    ///
    /// # Errors
    /// The refusal of the machine, or a failure of the connection.
    pub fn call(&self, request: Request) -> Result<Reply, ClientError> {
        if self.patience.is_zero() {
            return Ok(self.endpoint.call(request)?);
        }
        let start = Instant::now();
        loop {
            match self.endpoint.call(request.clone()) {
                Err(RpcError { retry_after_ms: Some(ms), .. })
                    if start.elapsed() + Duration::from_millis(ms) <= self.patience =>
                {
                    std::thread::sleep(Duration::from_millis(ms));
                }
                done => return Ok(done?),
            }
        }
    }
}
