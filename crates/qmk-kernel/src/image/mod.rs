//! Program images inside the kernel. `admit` checks an untrusted image, with `known` for the states of its registers;
//! `dataflow` finds which instruction waits for which, `profile` what the image takes of the machine, and `uncompute`
//! undoes operations. Start at [`admit::admit`]: nothing else is called with an image that it did not pass.

pub(crate) mod admit;
pub(crate) mod dataflow;
pub(crate) mod known;
pub(crate) mod profile;
pub(crate) mod uncompute;
