//! The order in which instructions are issued. Start at [`frontier`]: the ready instructions of one running image.

pub(crate) mod frontier;
