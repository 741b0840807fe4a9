//! Who was refused something.

/// Who was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusee {
    /// None within this process.
    pub(crate) uid: Option<u32>,
    /// The tenant for which it may act, not the one that it claims.
    pub(crate) tenant: Option<String>,
}
