//! The session protocol: typed requests and replies between clients and services. The binary wire form
//! carries [`Request`] and `Result<Reply, RpcError>` as postcard frames; the JSON-RPC form uses the
//! method name as in [`Request::method`], the variant's struct as `params`, and the reply's inner struct as `result`.

mod audit;
mod error;
mod estimate;
pub mod interactive;
mod job;
#[cfg(feature = "json")]
pub mod json;
mod message;
mod session;
mod watch;

pub use audit::*;
pub use error::*;
pub use estimate::*;
pub use job::*;
pub use message::*;
pub use session::*;
pub use watch::*;
