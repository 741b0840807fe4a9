//! Kernel system calls. Each names, by [`Handle`](crate::Handle), the capability it uses; the caller is a domain whose
//! capability space those handles index.

mod call;
mod channel;
mod error;
mod object;
mod patch;
mod quota;
mod reason;
mod reply;
mod strand;

pub use call::Syscall;
pub use channel::{ChannelInfo, ChannelState};
pub use error::{KernelError, Limit};
pub use object::ObjectKind;
pub use patch::{Code, Level, NoiseSpec, Patch};
pub use quota::{Budget, DomainUsage, Quota};
pub use reason::{BadArgument, Late, NotYet, WrongState};
pub use reply::{Reply, outcome_bit};
pub use strand::{Run, StrandState, StrandStatus};
