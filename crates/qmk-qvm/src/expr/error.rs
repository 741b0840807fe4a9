//! Errors of expressions.

/// An error of an expression, as a finding will show it.
#[derive(Debug)]
pub(crate) struct ExprError {
    /// `E-PARSE`, or `E-LIMIT` for an expression that exceeds a limit.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The name without a value, if that is the error.
    pub(crate) undefined: Option<String>,
}

impl ExprError {
    pub(crate) fn limit(message: impl Into<String>) -> Self {
        ExprError { code: "E-LIMIT", message: message.into(), undefined: None }
    }
}

impl From<String> for ExprError {
    fn from(message: String) -> Self {
        ExprError { code: "E-PARSE", message, undefined: None }
    }
}

impl From<&str> for ExprError {
    fn from(message: &str) -> Self {
        message.to_string().into()
    }
}

pub(super) type Res<T> = Result<T, ExprError>;

pub(super) fn too_deep() -> ExprError {
    ExprError::limit("an expression is nested too deeply; name parts of it with .set")
}
