//! Opening a session, option by option.

use crate::client::Client;
use crate::error::{ClientError, unexpected};
use crate::session::Session;
use qmk_abi::Rights;
use qmk_abi::rpc::{Authenticate, Authenticated, Reply, Request, SessionCreate};

/// A session to be opened; see [`Client::open`].
#[must_use = "nothing is opened before `start`"]
pub struct SessionBuilder<'a> {
    client: &'a Client,
    params: SessionCreate,
}

impl SessionBuilder<'_> {
    /// Asks for these capabilities and no others.
    pub fn caps(mut self, caps: Rights) -> Self {
        self.params.requested = Some(caps.class_names());
        self
    }

    /// Acts for a tenant, of several that the caller acts for.
    pub fn tenant(mut self, name: impl Into<String>) -> Self {
        self.params.tenant_id = Some(name.into());
        self
    }

    /// Shows a token, for this session only.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.params.token = Some(token.into());
        self
    }

    /// Keeps the session when the connection closes, and when the [`Session`] is dropped.
    pub fn detached(mut self) -> Self {
        self.params.detached = true;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    /// `AUTH_FAILED`, `TENANT_SUSPENDED`, `QUOTA_EXCEEDED`.
    pub fn start(self) -> Result<Session, ClientError> {
        self.client.session_with(self.params)
    }
}

impl Client {
    /// A session to be opened: with all that the caller may do, unless the builder is told otherwise.
    pub fn open(&self) -> SessionBuilder<'_> {
        SessionBuilder { client: self, params: SessionCreate::default() }
    }

    /// Shows a token: sessions are opened under it from now on, and those of its tenant can be used.
    ///
    /// # Errors
    /// `AUTH_FAILED`, `TENANT_SUSPENDED`.
    pub fn authenticate(&self, token: &str) -> Result<Authenticated, ClientError> {
        match self.call(Request::Authenticate(Authenticate { token: token.into() }))? {
            Reply::Authenticated(info) => Ok(info),
            other => unexpected(other),
        }
    }
}
