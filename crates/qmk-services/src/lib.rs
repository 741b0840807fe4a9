//! User-mode services over the kernel's system calls: sessions, jobs, the executor and its accounts.
//!
//! [`Machine`] owns a kernel and a thread that advances it; [`Machine::connect`] gives an endpoint of the
//! session protocol. Policy lives here, never in the kernel.
//!
//! ```
//! # fn main() -> Result<(), qmk_client::ClientError> {
//! use qmk_client::{Client, Policy, Program};
//! use qmk_services::{Machine, MachineConfig};
//! use qmk_sim::SimDevice;
//!
//! let machine = Machine::start(SimDevice::default(), MachineConfig::default());
//! let session = Client::over(machine.connect()).session_default()?;
//! let coin = Program::asm("ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a");
//! println!("{:?}", session.run(&coin, Policy { shots: 100, ..Policy::default() })?.report.counts);
//! # Ok(())
//! # }
//! ```
//!
//! Qubits one by one, and a channel between two tenants:
//!
//! ```
//! # fn main() -> Result<(), qmk_client::ClientError> {
//! use qmk_client::{Client, SessionCreate};
//! use qmk_services::{Machine, MachineConfig};
//! use qmk_sim::SimDevice;
//!
//! let machine = Machine::start(SimDevice::default(), MachineConfig::default());
//! let tenant = |name: &str| SessionCreate { tenant_id: Some(name.into()), ..SessionCreate::default() };
//! let alice = Client::over(machine.connect()).session_with(tenant("alice"))?;
//! let bob = Client::over(machine.connect()).session_with(tenant("bob"))?;
//!
//! let (qubits, far) = (alice.alloc(2)?, bob.alloc(1)?);
//! let offer = alice.open_channel(&qubits[0], "bob", 0.99)?;
//! let pair = bob.accept_channel(&offer.channel_id, &far[0])?;
//! alice.apply("APPLY_X", &[&qubits[1]])?;
//! alice.teleport(&offer.channel_id, &qubits[1])?;
//! println!("{} with fidelity {}", bob.measure(&far[0], "z")?, pair.actual_fidelity);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod audit_limit;
mod build_queue;
mod channels;
mod config;
mod connection;
mod driver;
mod errors;
mod estimate;
mod identity;
mod interactive;
mod jobs;
mod machine;
mod model;
mod notices;
pub mod policy;
mod program;
mod recover;
pub mod replay;
mod sessions;
mod state;
pub mod store;
mod submit;
mod tenants;
mod watch;

pub use config::MachineConfig;
pub use connection::Connection;
pub use machine::Machine;
pub use model::caller::Peer;
pub use notices::NOTICES;
pub use program::{Program, count_outcomes};
pub use qmk_kernel::hal;
pub use store::StoreError;
