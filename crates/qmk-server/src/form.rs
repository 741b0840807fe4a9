//! How a client speaks: JSON, or binary frames.

use crate::json_splitter::JsonSplitter;

/// How a client speaks.
pub(crate) enum Form {
    /// The first bytes, which do not decide it yet.
    Unknown(Vec<u8>),
    Json(JsonSplitter),
    /// The bytes of a frame that has begun.
    Frames(Vec<u8>),
}

impl Form {
    /// Whether a message has begun and not ended.
    pub(crate) fn inside(&self) -> bool {
        self.held() > 0
    }

    /// Bytes of a message that has begun.
    pub(crate) fn held(&self) -> usize {
        match self {
            Form::Unknown(bytes) | Form::Frames(bytes) => bytes.len(),
            Form::Json(splitter) => splitter.held(),
        }
    }
}
