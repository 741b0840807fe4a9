//! Why a call is refused, and why the kernel stops.
//!
//! A refusal ([`KernelError`]) is the caller's business and changes nothing. A [`Broken`] invariant is a bug of the
//! kernel: the accounts can no longer be trusted, so the kernel stops instead of going on with wrong ones.

use alloc::string::ToString;
use core::fmt;
use qmk_abi::KernelError;
use qmk_abi::syscall::Late;
use qmk_hal::DeviceError;

/// The answer to a call.
pub(crate) type Result<T> = core::result::Result<T, KernelError>;

/// The result of a step that can fail only because an invariant does not hold.
pub(crate) type Checked<T = ()> = core::result::Result<T, Broken>;

/// An invariant of the kernel that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    story: &'static str,
    /// Number of the object, region, context or domain that the story is about.
    number: Option<u32>,
}

impl Broken {
    /// A violation met on the way. Debug builds panic here, where the backtrace shows the way; release builds hand it
    /// up to `syscall` or `advance`, which stop the kernel.
    #[cold]
    pub(crate) fn met(story: &'static str, number: Option<u32>) -> Self {
        debug_assert!(story.is_empty(), "the kernel is broken: {story} {number:?}");
        Broken { story, number }
    }

    /// A violation found by an audit, which changes nothing and so needs not stop anything.
    #[cfg(any(test, feature = "audit"))]
    pub(crate) const fn found(story: &'static str, number: Option<u32>) -> Self {
        Broken { story, number }
    }

    /// The invariant, without the number of the object that breaks it.
    pub const fn story(&self) -> &'static str {
        self.story
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{} ({number})", self.story),
            None => f.write_str(self.story),
        }
    }
}

impl core::error::Error for Broken {}

impl From<Broken> for KernelError {
    fn from(broken: Broken) -> Self {
        KernelError::Broken(broken.to_string())
    }
}

/// An impossible case.
#[cold]
pub(crate) fn broken(story: &'static str) -> Broken {
    Broken::met(story, None)
}

/// Takes `by` from a count that is never negative.
///
/// # Errors
/// `story` if the count is smaller: something was given back twice.
#[inline]
pub(crate) fn lower(count: &mut u32, by: u32, story: &'static str) -> Checked {
    *count = count.checked_sub(by).ok_or_else(|| broken(story))?;
    Ok(())
}

/// Refuses a call if a condition holds.
#[inline]
pub(crate) fn refuse_if(condition: bool, refusal: KernelError) -> Result<()> {
    if condition { Err(refusal) } else { Ok(()) }
}

/// Refuses a call for a reason.
pub(crate) fn refuse<T>(why: impl Into<KernelError>) -> Result<T> {
    Err(why.into())
}

/// Passes the device's refusal on. The call has changed nothing.
pub(crate) fn device_error(e: DeviceError) -> KernelError {
    KernelError::Device(e.to_string())
}

/// Refuses a deadline of `asked` epochs.
pub(crate) fn late<T>(asked: u64, why: Late) -> Result<T> {
    Err(KernelError::Deadline { asked, why })
}
