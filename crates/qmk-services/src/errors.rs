//! Refusals of the kernel and of the services, in the form of the wire.

use crate::store::error::StoreError;
use qmk_abi::KernelError;
use qmk_abi::image::{ImageError, ImageErrorKind};
use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_abi::syscall::Limit;

pub(crate) fn not_found<T>(what: ErrorCode) -> Result<T, RpcError> {
    let message = if what == ErrorCode::JobNotFound { "no such job" } else { "no such session" };
    Err(RpcError::new(what, message))
}

pub(crate) fn lost(e: &StoreError) -> RpcError {
    RpcError::new(ErrorCode::Internal, format!("the stored account of the job cannot be read: {e}"))
}

pub(crate) fn kernel_error(e: KernelError) -> RpcError {
    let code = match &e {
        KernelError::Quota(_) => ErrorCode::QuotaExceeded,
        KernelError::Budget(_)
        | KernelError::Capacity { .. }
        | KernelError::Deadline { .. }
        | KernelError::NotReady(_)
        | KernelError::Image(ImageError { kind: ImageErrorKind::Unaffordable, .. }) => ErrorCode::ResourceExhausted,
        KernelError::Image(_) => ErrorCode::InvalidGraph,
        KernelError::Argument(_) | KernelError::Patch(_) | KernelError::State(_) => ErrorCode::InvalidParams,
        KernelError::Rights(_) => ErrorCode::InsufficientCaps,
        KernelError::Fidelity { .. } => ErrorCode::FidelityUnavailable,
        KernelError::NoCapability | KernelError::WrongKind | KernelError::Device(_) => ErrorCode::Internal,
        KernelError::Broken(reason) => return RpcError::stopped(reason),
    };
    let hint = match &e {
        KernelError::Quota(Limit::Strands) => " of unfinished jobs (max_jobs); wait for one to end or cancel one",
        KernelError::Quota(_) => "; `qmk resources` (qmk_resource_query) has the tenant's quota",
        KernelError::Budget(_) => "; open a session with a larger budget",
        KernelError::NotReady(_) => "; try again later",
        KernelError::Fidelity { .. } => "; ask for less",
        _ => "",
    };
    let lacks = if let KernelError::Rights(missing) = &e { missing.class_names() } else { Vec::new() };
    let mut refused = RpcError::new(code, format!("{e}{hint}"));
    (refused.required, refused.missing) = (lacks.clone(), lacks);
    refused
}

/// A refused attempt.
pub(crate) enum Refused {
    /// A later epoch may change it.
    NotYet(RpcError),
    Final(RpcError),
}

impl From<RpcError> for Refused {
    fn from(e: RpcError) -> Self {
        Refused::Final(e)
    }
}

impl From<KernelError> for Refused {
    fn from(e: KernelError) -> Self {
        match e {
            KernelError::NotReady(_) => Refused::NotYet(kernel_error(e)),
            // The device lacks room for the state of the caller's qubits.
            KernelError::Device(_) => Refused::Final(RpcError::new(ErrorCode::ResourceExhausted, e.to_string())),
            e => Refused::Final(kernel_error(e)),
        }
    }
}

pub(crate) fn unexpected<T, E: From<RpcError>>(reply: qmk_abi::Reply) -> Result<T, E> {
    Err(RpcError::new(ErrorCode::Internal, format!("unexpected reply {reply:?}")).into())
}

pub(crate) fn invalid<T, E: From<RpcError>>(message: impl Into<String>) -> Result<T, E> {
    Err(RpcError::new(ErrorCode::InvalidParams, message).into())
}
