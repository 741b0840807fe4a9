//! The subject of a refusal.

/// The user and tenant whose request was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusee {
    /// Unix user; `None` within this process.
    pub(crate) uid: Option<u32>,
    /// Tenant that the user may act for; not the claimed one.
    pub(crate) tenant: Option<String>,
}
