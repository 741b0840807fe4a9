//! The order in which instructions are issued. Start at [`frontier`]: the ready instructions of one running image.

pub(crate) mod deadline;
pub(crate) mod drain;
pub(crate) mod epoch;
pub(crate) mod fair_queue;
pub(crate) mod frontier;
pub(crate) mod region;
pub(crate) mod start;
pub(crate) mod turn;
