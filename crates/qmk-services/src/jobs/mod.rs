//! Jobs: taken on in [`submit`], followed in [`collect`] after each epoch, ended and kept in [`end`].

mod collect;
mod end;
mod submit;
