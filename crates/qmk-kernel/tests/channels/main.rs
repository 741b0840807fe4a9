//! Channels: every state that small tables can reach and every call in each of them, then the physics of their pairs,
//! then what the holder of an endpoint must not be able to do.
#![allow(clippy::print_stdout, reason = "shows how much was searched")]
#![allow(unreachable_pub)]

mod holders;
mod lab;
mod physics;
mod search;

pub(crate) const PERFECT: [f64; 4] = [1.0, 0.0, 0.0, 0.0];
