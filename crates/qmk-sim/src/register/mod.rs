//! The dense register: groups of 2^k amplitudes over the active qubits, with Pauli strings given as bit masks.
//!
//! Start at [`dense`], the register and its operations. [`kernel`] has the passes over amplitudes that they make,
//! [`passes`] fuses many rotations into few of them. [`mask`] is a Pauli string over register bits, [`merge`] a list of
//! rotations.
//!
//! Results are the same to the bit on every machine: elementwise operations are exactly rounded, sums are taken in
//! a fixed order, and sines come from `libm`.

mod dense;
mod kernel;
pub(crate) mod mask;
pub(crate) mod merge;
mod passes;
#[cfg(test)]
mod scalar;
#[cfg(test)]
mod tests;

pub use dense::Register;
