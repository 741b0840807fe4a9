//! Blocking client for a QMK machine: over its Unix socket with [`Client::connect`], or of a machine in the same
//! process with [`Client::over`], through the same trait, [`qmk_abi::rpc::Endpoint`]. Start at [`Client`]; a
//! [`Session`] submits programs and holds qubits, a [`Job`] is waited for.
//!
//! ```
//! # fn main() -> Result<(), qmk_client::ClientError> {
//! use qmk_client::{Client, Policy, Program};
//! use qmk_services::{Machine, MachineConfig};
//! use qmk_sim::SimDevice;
//!
//! // Of a server: `Client::connect("/tmp/qmk.sock")?`.
//! let machine = Machine::start(SimDevice::default(), MachineConfig::default());
//! let client = Client::over(machine.connect());
//! let session = client.session_default()?;
//! let bell = Program::asm("ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y");
//! let result = session.run(&bell, Policy { shots: 100, ..Policy::default() })?;
//! println!("{:?}", result.report.counts);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod builder;
mod client;
mod error;
mod interactive;
mod job;
mod program;
mod session;
mod socket;

pub use builder::SessionBuilder;
pub use client::Client;
pub use error::ClientError;
pub use job::Job;
pub use program::Program;
pub use qmk_abi::Rights as Cap;
pub use qmk_abi::rpc::interactive::{Applied, ChannelInfo, ChannelState, CheckpointInfo, Mapping, Released, Replayed};
pub use qmk_abi::rpc::{
    Endpoint, ErrorCode, Format, JobResult, JobStatus, LogicalCounts, Policy, Resources, RpcError, SessionCreate,
    SessionInfo,
};
pub use session::Session;
pub use socket::default_socket;
