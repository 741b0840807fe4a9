//! Connections to a server: socket, token, sessions that only read, and jobs by name.

use crate::args::{JobArgs, ServerArgs};
use crate::failure::Failure;
use crate::token;
use qmk_client::{Client, Job, Session, default_socket};
use std::path::Path;
use std::time::Duration;

/// How long a client repeats a request that the server's rate limit refuses.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the server that the options name, or to the default socket.
pub(crate) fn connect(server: &ServerArgs) -> Result<Client, Failure> {
    let path = server.connect.clone().unwrap_or_else(|| default_socket().to_string_lossy().into_owned());
    client(&path, server.token.as_deref())
}

/// A connection to a socket, authenticated if there is a token.
pub(crate) fn client(socket: &str, token: Option<&Path>) -> Result<Client, Failure> {
    let token = shown_token(token)?;
    let client = Client::connect(socket)?.patient(PATIENCE);
    if let Some(token) = token {
        client.authenticate(&token)?;
    }
    Ok(client)
}

/// A session that reads the state of the server and submits nothing.
pub(crate) fn observe(server: &ServerArgs) -> Result<Session, Failure> {
    Ok(connect(server)?.observe(server.tenant.as_deref())?)
}

/// The job that the command line names.
pub(crate) fn attach(job: &JobArgs) -> Result<Job, Failure> {
    Ok(Job::attach(&connect(&job.server)?, job.job.clone()))
}

/// The text of the token to authenticate with: from the file of `--token`, else from `QMK_TOKEN`.
fn shown_token(option: Option<&Path>) -> Result<Option<String>, Failure> {
    match option {
        Some(path) => token::read(path).map(Some),
        None => Ok(std::env::var("QMK_TOKEN").ok().filter(|t| !t.is_empty())),
    }
}
