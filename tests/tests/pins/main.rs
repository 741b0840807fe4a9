//! What must not change: recorded logs of three machines with the digests of their replies, and the replies of a server
//! to every program of `examples/`, in both forms of the wire, byte for byte. `crates/qmk-cli/tests/pins.rs` does the
//! same for what `qmk` prints.
//!
//! The recordings stand in `tests/pins`. `QMK_PINS=write cargo test -p qmk-tests --test pins` writes them anew;
//! [`qmk_tests::pins`] says when that is allowed.

mod machines;
mod wire;

use qmk_tests::pins::Pins;
use std::path::Path;

fn recordings(part: &str) -> Pins {
    Pins::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pins").join(part))
}
