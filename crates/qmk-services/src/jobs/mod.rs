//! Jobs: programs under way, and their results.

mod collect;
mod end;
mod submit;
