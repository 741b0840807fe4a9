//! The QMK daemon: the session protocol over a Unix socket, as JSON-RPC 2.0 or as binary frames. Start at [`Server`],
//! which gives each client a thread; `connection.rs` has the life of a request; [`daemon`] closes the machine at the
//! end.
#![forbid(unsafe_code)]

mod connection;
mod counted;
pub mod daemon;
mod form;
mod frames;
mod json;
mod json_splitter;
mod limits;
pub mod log;
pub mod metrics;
mod replies;
mod server;
mod socket;
mod user_limits;

pub use limits::Limits;
pub use qmk_services::Peer;
pub use server::{Connect, Server};
pub use socket::default_socket;
