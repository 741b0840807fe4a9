//! The simulated machine behind the hardware contract.
//!
//! Start at [`machine`], the tables of spaces, states and saved states, and at [`contract`], which runs programs.
//! [`interactive`] and [`snapshot`] are the other two parts of the contract. [`work`] is what the machine hands out:
//! [`program`] steps the shots of a program, [`shared_state`] is the state of interactive spaces.

mod contract;
mod cost;
mod interactive;
mod machine;
mod program;
mod refusal;
mod shared_state;
mod snapshot;
mod space;
#[cfg(test)]
mod tests;
mod work;

pub use machine::{SimConfig, SimDevice};
pub use work::SimWork;
