//! Refusals.

use alloc::string::ToString;
use qmk_abi::KernelError;
use qmk_hal::DeviceError;

pub(crate) type Result<T> = core::result::Result<T, KernelError>;

pub(crate) fn argument<T>(what: &str) -> Result<T> {
    Err(KernelError::Argument(what.into()))
}

pub(crate) fn not_now<T>(what: &str) -> Result<T> {
    Err(KernelError::State(what.into()))
}

pub(crate) fn not_ready<T>(what: &str) -> Result<T> {
    Err(KernelError::NotReady(what.into()))
}

pub(crate) fn device_error(e: DeviceError) -> KernelError {
    KernelError::Device(e.to_string())
}

/// Refuses a deadline.
pub(crate) fn late<T>(asked: u64, why: &str) -> Result<T> {
    Err(KernelError::Deadline { asked, why: why.into() })
}
