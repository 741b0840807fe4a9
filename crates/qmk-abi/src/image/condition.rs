//! When an instruction acts.

use super::op::Event;
use serde::{Deserialize, Serialize};

/// One term of a condition in postfix order: operands first, then the operator that joins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CondTerm {
    /// Pushes an event's value.
    Event(Event),
    /// Negates the top of the stack.
    Not,
    /// Replaces the top `n >= 1` values by their conjunction.
    And(u32),
    /// Replaces the top `n >= 1` values by their disjunction.
    Or(u32),
    /// Replaces the top `n >= 1` values by their parity.
    Xor(u32),
}

/// A range `start..end` of [`Image::terms`](crate::image::Image::terms) in postfix order; leaves exactly one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cond {
    /// First term.
    pub start: u32,
    /// One past the last term.
    pub end: u32,
}
