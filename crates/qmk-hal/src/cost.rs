//! The cost of an operation.

use qmk_abi::image::Timed;

/// Cost of one operation in the machine's own units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Logical cycles from issue until the operands are free again, at most [`Cost::MAX_CYCLES`]. 0: tracked in
    /// software.
    pub cycles: u32,
    /// Magic states consumed.
    pub magic: u32,
    /// Routing channels occupied while it runs.
    pub routes: u32,
}

impl Cost {
    /// Cycles of the longest operation that a device may have.
    pub const MAX_CYCLES: u32 = 255;
}

impl Timed for Cost {
    #[inline]
    fn cycles(&self) -> u32 {
        self.cycles
    }
}
