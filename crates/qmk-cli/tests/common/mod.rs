//! The command under test, and the programs of `examples/`.
#![allow(dead_code, reason = "each test takes what it needs")]

use qmk_testkit::cli::{Out, Qmk};
use std::path::Path;

pub(crate) const QMK: Qmk = Qmk(env!("CARGO_BIN_EXE_qmk"));

pub(crate) fn qmk(args: &[&str]) -> Out {
    QMK.run(args)
}

pub(crate) fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).to_string_lossy().into_owned()
}
