//! Events that a person must read: what happened to the files of a machine.

/// Target of these events. The server writes them to standard error, whatever else it logs.
pub const NOTICES: &str = "qmk::notice";
