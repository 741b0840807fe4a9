//! Splits a byte stream into JSON values without parsing them.

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 128;

/// What the splitter found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The text of one value, or of something that is none.
    Value(Vec<u8>),
    /// A value that cannot be finished; the rest of its line is skipped.
    Malformed(&'static str),
    /// The stream cannot be followed any further.
    Fatal(&'static str),
    /// A value longer than the limit; the stream is followed no further.
    TooLong,
}

impl Piece {
    /// Bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        if let Piece::Value(text) = self { text.len() } else { 0 }
    }
}

/// Incremental splitter: each byte is looked at once.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: Vec<u8>,
    limit: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    skipping: bool,
}

impl Splitter {
    pub(crate) fn new(limit: usize) -> Self {
        Splitter { buffer: Vec::new(), limit, depth: 0, in_string: false, escaped: false, skipping: false }
    }

    fn reset(&mut self) -> Vec<u8> {
        (self.depth, self.in_string, self.escaped) = (0, false, false);
        std::mem::take(&mut self.buffer)
    }

    /// Feeds bytes; calls `each` per piece. Returns false after a fatal piece.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Piece)) -> bool {
        for &b in bytes {
            if self.skipping {
                self.skipping = b != b'\n';
                continue;
            }
            if self.in_string && b == b'\n' {
                // No JSON string holds a raw newline, so this is a place to start afresh.
                self.reset();
                each(Piece::Malformed("a string is not closed before the end of the line"));
                continue;
            }
            let blank = b.is_ascii_whitespace();
            if self.buffer.is_empty() && blank {
                continue;
            }
            if self.depth == 0 && !self.in_string && !self.buffer.is_empty() && (blank || matches!(b, b'{' | b'[')) {
                // A bare word or number ends here.
                each(Piece::Value(self.reset()));
                if blank {
                    continue;
                }
            }
            if self.buffer.len() >= self.limit {
                each(Piece::TooLong);
                return false;
            }
            self.buffer.push(b);
            if self.in_string {
                match b {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            each(Piece::Value(self.reset()));
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match b {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        each(Piece::Fatal("nested too deeply"));
                        return false;
                    }
                }
                b'}' | b']' if self.depth == 0 => {
                    self.reset();
                    self.skipping = true;
                    each(Piece::Malformed("a bracket closes nothing"));
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        each(Piece::Value(self.reset()));
                    }
                }
                _ => {}
            }
        }
        true
    }

    /// What is left when the stream ends.
    pub(crate) fn finish(&mut self) -> Option<Piece> {
        if self.buffer.is_empty() {
            return None;
        }
        if self.depth > 0 || self.in_string {
            return Some(Piece::Malformed("the stream ends inside a value"));
        }
        Some(Piece::Value(self.reset()))
    }
}
