//! The data of the services: what a machine knows of its callers, tenants, sessions and jobs. Nothing here names the
//! machine's state.

pub(crate) mod caller;
pub(crate) mod channel;
pub(crate) mod finished;
pub(crate) mod holdings;
pub(crate) mod job;
pub(crate) mod rate;
pub(crate) mod refusee;
pub(crate) mod session;
pub(crate) mod tenant;
pub(crate) mod ticket;
pub(crate) mod watched;
