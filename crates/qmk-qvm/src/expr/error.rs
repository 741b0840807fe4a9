//! What can be wrong with an expression.

/// What is wrong with an expression.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// `E-PARSE`, or `E-LIMIT` for what asks for too much.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The name that has no value, if that is it.
    pub(crate) undefined: Option<String>,
}

impl Wrong {
    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Wrong { code: "E-LIMIT", message: message.into(), undefined: None }
    }
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Wrong { code: "E-PARSE", message, undefined: None }
    }
}

impl From<&str> for Wrong {
    fn from(message: &str) -> Self {
        message.to_string().into()
    }
}

pub(super) type Res<T> = Result<T, Wrong>;

pub(super) fn too_deep() -> Wrong {
    Wrong::limit("an expression is nested too deeply; name parts of it with .set")
}
