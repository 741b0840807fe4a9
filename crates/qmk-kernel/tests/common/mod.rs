#![allow(unreachable_pub, missing_docs, dead_code)]

pub mod checked;
pub mod images;
pub mod model;
