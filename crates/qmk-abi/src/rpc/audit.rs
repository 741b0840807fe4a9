//! The audit log: signed heads, and entries with their proofs.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Parameters of `qmk_audit_head`: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {}

/// Parameters of `qmk_audit_prove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditProve {
    /// Session id. Its tenant sees its own entries.
    pub session_id: String,
    /// Position of the entry in the log.
    pub index: u64,
}

/// Result of `qmk_audit_head`: a promise, signed with Ed25519, of the entries before it. What is signed is the text
/// of three lines, each ended by a newline, of the origin, the size in decimal and the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Name of the log, made from its key.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root of their Merkle tree (RFC 9162), in base64.
    pub root: String,
    /// Signature, in base64.
    pub signature: String,
    /// The key that verifies it, as a C2SP signed-note verifier key.
    pub key: String,
}

/// Result of `qmk_audit_prove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditProof {
    /// Position of the entry in the log.
    pub index: u64,
    /// The entry's bytes, in base64.
    pub entry: String,
    /// Inclusion proof in the head's tree (RFC 9162, section 2.1.3), in base64.
    pub path: Vec<String>,
    /// The head.
    pub head: AuditHead,
}
