//! How a client speaks: JSON, or binary frames.

use crate::json_splitter::JsonSplitter;

/// How a client speaks.
pub(crate) enum Form {
    /// Its first bytes have not told.
    Unknown(Vec<u8>),
    Json(JsonSplitter),
    /// With what has come of a frame.
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
