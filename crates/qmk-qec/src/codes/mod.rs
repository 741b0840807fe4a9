//! Codes: geometry, checks, logical operators and circuits.
//!
//! [`Code`] is the contract. [`RotatedSurface`] is the simplest code to read first; [`Subsystem`] is the common part of
//! Bacon-Shor and SHYPS codes; [`Honeycomb`] is a Floquet code. [`by_name`] finds a code by the name that users give.

mod bacon_shor;
pub(crate) mod code;
mod honeycomb;
mod shyps;
mod subsystem;
pub mod surface;

pub use code::{Checks, Code, PauliProduct};
pub use honeycomb::Honeycomb;
pub use subsystem::Subsystem;
pub use surface::RotatedSurface;

use crate::error::{DistanceError, QecError};

/// Names of the codes.
pub const NAMES: [&str; 5] = ["surface_code", "bacon_shor", "honeycomb", "honeycomb_ancillas", "shyps"];

/// The code of a name (as in `--code`) and distance.
///
/// # Errors
/// [`QecError::UnknownName`] with the known names, or [`QecError::Distance`] with the range of distances.
pub fn by_name(name: &str, distance: u32) -> Result<Box<dyn Code>, QecError> {
    match name {
        "surface_code" | "surface" => Ok(Box::new(RotatedSurface::new(distance)?)),
        "bacon_shor" => Ok(Box::new(Subsystem::bacon_shor(distance)?)),
        "honeycomb" => Ok(Box::new(Honeycomb::pairs(distance)?)),
        "honeycomb_ancillas" => Ok(Box::new(Honeycomb::ancillas(distance)?)),
        "shyps" => match distance {
            4 => Ok(Box::new(Subsystem::shyps(3)?)),
            8 => Ok(Box::new(Subsystem::shyps(4)?)),
            16 => Ok(Box::new(Subsystem::shyps(5)?)),
            _ => Err(DistanceError::Shyps(distance).into()),
        },
        _ => Err(QecError::UnknownName { kind: "code", name: name.into(), known: &NAMES }),
    }
}
