//! Channels between tenants, told independently of the kernel: a derivation tree with parent pointers, and the rules of
//! each call.
//!
//! `model` has the state, `rules` which calls are allowed, `effect` what they do; `world` is a kernel beside the model.
//! Start with [`World::step`].

mod effect;
mod key;
mod model;
mod rules;
mod world;

pub use model::{Cap, Model, Thing};
pub use world::{Step, World};
