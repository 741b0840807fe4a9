//! Capability spaces. Where to start: [`space::Space`], one domain's, and in it the generation by which a revoked
//! handle is told from a valid one. The calls that change spaces are in `calls/derivation.rs`.

pub(crate) mod space;
