//! Kinds of kernel object.

use serde::{Deserialize, Serialize};

/// Kinds of kernel object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// The machine, or a part of its budget: the right to admit and run programs. The root of a session.
    Machine,
    /// A domain, as seen by its creator.
    Domain,
    /// An admitted program image.
    Image,
    /// A running or finished program.
    Strand,
    /// A qubit held interactively.
    Qubit,
    /// A share of the machine that strands run under.
    Context,
    /// A part of the machine that is kept for those who hold it.
    Region,
    /// One end of a channel.
    Endpoint,
    /// A state to come back to.
    Checkpoint,
}
