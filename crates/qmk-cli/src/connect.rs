//! Connections to a server.

use crate::args::{JobArgs, ServerArgs};
use crate::failure::Failure;
use crate::token;
use qmk_client::{Client, Job, Session, default_socket};
use std::path::Path;
use std::time::Duration;

/// How long to go on asking a server that was asked too often.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn connect(server: &ServerArgs) -> Result<Client, Failure> {
    let path = server.connect.clone().unwrap_or_else(|| default_socket().to_string_lossy().into_owned());
    client(&path, server.token.as_deref())
}

/// A connection under the token that is given, if any.
pub(crate) fn client(socket: &str, token: Option<&Path>) -> Result<Client, Failure> {
    let token = shown_token(token)?;
    let client = Client::connect(socket)?.patient(PATIENCE);
    if let Some(token) = token {
        client.authenticate(&token)?;
    }
    Ok(client)
}

/// A session to look around with.
pub(crate) fn observe(server: &ServerArgs) -> Result<Session, Failure> {
    Ok(connect(server)?.observe(server.tenant.as_deref())?)
}

pub(crate) fn attach(job: &JobArgs) -> Result<Job, Failure> {
    Ok(Job::attach(&connect(&job.server)?, job.job.clone()))
}

/// The token of a command that speaks to a server: the option's, or that of the environment.
fn shown_token(option: Option<&Path>) -> Result<Option<String>, Failure> {
    match option {
        Some(path) => token::read(path).map(Some),
        None => Ok(std::env::var("QMK_TOKEN").ok().filter(|t| !t.is_empty())),
    }
}
