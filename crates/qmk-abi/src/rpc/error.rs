//! Refusals: error codes, and the findings of the verifier.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// A refused request. Codes are those of JSON-RPC 2.0 and of the QMK protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// What kind of error.
    pub code: ErrorCode,
    /// What was wrong, where, and what to do about it.
    pub message: String,
    /// Capabilities required, for `InsufficientCaps`.
    pub required: Vec<String>,
    /// Capabilities missing, for `InsufficientCaps`.
    pub missing: Vec<String>,
    /// Verifier findings, for `InvalidGraph`.
    pub findings: Vec<Finding>,
    /// When to try again, for a refusal that time alone mends.
    pub retry_after_ms: Option<u64>,
}

/// What the message of a machine that has stopped begins with; the reason follows.
const STOPPED: &str = "the machine has stopped: ";

impl RpcError {
    /// The answer of a machine that has stopped because an invariant of its kernel is broken.
    pub fn stopped(reason: &str) -> Self {
        RpcError::new(ErrorCode::Internal, [STOPPED, reason].concat())
    }

    /// Why the machine has stopped, if that is the error. It is part of the message, so that both forms of the wire
    /// carry it; the JSON form has it as `data.reason`, too.
    pub fn stop_reason(&self) -> Option<&str> {
        self.message.strip_prefix(STOPPED).filter(|_| self.code == ErrorCode::Internal)
    }

    /// An error with a code and message only.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let (required, missing, findings) = (Vec::new(), Vec::new(), Vec::new());
        RpcError { code, message: message.into(), required, missing, findings, retry_after_ms: None }
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal,)*) => {
        /// Error codes of the session protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }
        impl ErrorCode {
            /// JSON-RPC error code.
            pub fn code(self) -> i32 { match self { $(ErrorCode::$name => $code,)* } }
            /// Protocol name, such as `INVALID_GRAPH`.
            pub fn name(self) -> &'static str { match self { $(ErrorCode::$name => $text,)* } }
            /// The code with this JSON-RPC number.
            pub fn from_code(code: i32) -> Option<Self> { match code { $($code => Some(ErrorCode::$name),)* _ => None } }
        }
    };
}

error_codes! {
    /// Not JSON.
    Parse = -32700 "PARSE_ERROR",
    /// Not a request object.
    InvalidRequest = -32600 "INVALID_REQUEST",
    /// No such method.
    MethodNotFound = -32601 "METHOD_NOT_FOUND",
    /// Wrong parameters.
    InvalidParams = -32602 "INVALID_PARAMS",
    /// The service failed.
    Internal = -32603 "INTERNAL_ERROR",
    /// The session lacks a capability.
    InsufficientCaps = -32001 "INSUFFICIENT_CAPS",
    /// Who the caller says it is was not accepted.
    AuthFailed = -32100 "AUTH_FAILED",
    /// The tenant may not act at present.
    TenantSuspended = -32101 "TENANT_SUSPENDED",
    /// No such session, or not the caller's.
    SessionNotFound = -32102 "SESSION_NOT_FOUND",
    /// The program has findings.
    InvalidGraph = -32200 "INVALID_GRAPH",
    /// The tenant's limit would be exceeded.
    QuotaExceeded = -32201 "QUOTA_EXCEEDED",
    /// The machine cannot hold the program.
    ResourceExhausted = -32202 "RESOURCE_EXHAUSTED",
    /// No such job, or not the caller's.
    JobNotFound = -32300 "JOB_NOT_FOUND",
    /// The session may not do this.
    AccessDenied = -32301 "ACCESS_DENIED",
    /// The wait ended before the job.
    Timeout = -32302 "TIMEOUT",
    /// The job has already ended.
    AlreadyCompleted = -32303 "ALREADY_COMPLETED",
    /// No such checkpoint.
    NoCheckpoint = -32400 "NO_CHECKPOINT",
    /// The fidelity asked for cannot be reached.
    FidelityUnavailable = -32500 "FIDELITY_UNAVAILABLE",
    /// No such channel, or not the caller's.
    ChannelNotFound = -32501 "CHANNEL_NOT_FOUND",
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The program cannot run.
    Error,
    /// The program runs, but look at this.
    Warning,
}

/// One finding of the verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Finding class, such as `E-LINEAR`.
    pub code: String,
    /// Severity.
    pub severity: Severity,
    /// Node the finding is about.
    pub node: Option<String>,
    /// Line of the source, from 1.
    pub line: Option<u32>,
    /// What is wrong and what to do.
    pub message: String,
}
