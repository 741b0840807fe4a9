//! Splits a byte stream into JSON values without parsing them.

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 128;
/// Room that is kept for the next value that comes in parts.
const KEPT: usize = 64 << 10;

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The text of one value, or of something that is none.
    Value(&'a [u8]),
    /// A value that cannot be finished; the rest of its line is skipped.
    Malformed(&'static str),
    /// The stream cannot be followed any further.
    Fatal(&'static str),
    /// A value longer than the limit; the stream is followed no further.
    TooLong,
}

/// Incremental splitter: each byte is looked at once, and copied only if its value comes in parts.
#[derive(Debug)]
pub(crate) struct JsonSplitter {
    /// The bytes of the value under way.
    buffer: Vec<u8>,
    limit: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    skipping: bool,
}

impl JsonSplitter {
    pub(crate) fn new(limit: usize) -> Self {
        JsonSplitter { buffer: Vec::new(), limit, depth: 0, in_string: false, escaped: false, skipping: false }
    }

    /// Whether a value has begun and not ended.
    pub(crate) fn inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Bytes that it holds of the value under way.
    pub(crate) fn held(&self) -> usize {
        self.buffer.len()
    }

    fn reset(&mut self) {
        (self.depth, self.in_string, self.escaped) = (0, false, false);
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
    }

    /// Hands over the value that ends with these bytes.
    fn end(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> bool) -> bool {
        let go_on = if self.buffer.len() + bytes.len() > self.limit {
            each(Piece::TooLong);
            false
        } else if self.buffer.is_empty() {
            each(Piece::Value(bytes))
        } else {
            self.buffer.extend_from_slice(bytes);
            each(Piece::Value(&self.buffer))
        };
        self.reset();
        go_on
    }

    /// Feeds bytes; calls `each` per piece, until it says false. Returns false then and after a fatal piece.
    pub(crate) fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>) -> bool) -> bool {
        // Where the value under way begins.
        let mut start = self.inside().then_some(0);
        let mut at = 0;
        while at < bytes.len() {
            let go_on = if self.skipping {
                self.skipping = bytes[at] != b'\n';
                at += 1;
                true
            } else if self.in_string {
                self.within_string(bytes, &mut at, &mut start, each)
            } else {
                self.outside_strings(bytes, &mut at, &mut start, each)
            };
            if !go_on {
                return false;
            }
        }
        if let Some(from) = start {
            self.buffer.extend_from_slice(&bytes[from..]);
            if self.buffer.len() > self.limit {
                each(Piece::TooLong);
                return false;
            }
        }
        true
    }

    /// Takes one byte of a string, or all up to the next that means something.
    #[inline]
    fn within_string(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        start: &mut Option<usize>,
        each: &mut impl FnMut(Piece<'_>) -> bool,
    ) -> bool {
        let b = bytes[*at];
        if !self.escaped && !matches!(b, b'"' | b'\\' | b'\n') {
            let plain = bytes[*at..].iter().position(|b| matches!(b, b'"' | b'\\' | b'\n'));
            *at += plain.unwrap_or(bytes.len() - *at);
            return true;
        }
        *at += 1;
        match b {
            b'\n' => {
                // No JSON string holds a raw newline, so the next line starts afresh.
                self.reset();
                *start = None;
                return each(Piece::Malformed("a string is not closed before the end of the line"));
            }
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            _ => {
                self.in_string = false;
                if self.depth == 0 {
                    return self.end(&bytes[start.take().unwrap_or(0)..*at], each);
                }
            }
        }
        true
    }

    /// Takes one byte that is no part of a string.
    #[inline]
    fn outside_strings(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        start: &mut Option<usize>,
        each: &mut impl FnMut(Piece<'_>) -> bool,
    ) -> bool {
        let b = bytes[*at];
        let blank = b.is_ascii_whitespace();
        if let Some(from) = start.filter(|_| self.depth == 0 && (blank || matches!(b, b'{' | b'['))) {
            // A bare word or number ends here.
            *start = None;
            if !self.end(&bytes[from..*at], each) {
                return false;
            }
        }
        if start.is_none() {
            if blank {
                *at += 1;
                return true;
            }
            *start = Some(*at);
        }
        *at += 1;
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
                *start = None;
                self.skipping = true;
                return each(Piece::Malformed("a bracket closes nothing"));
            }
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    return self.end(&bytes[start.take().unwrap_or(0)..*at], each);
                }
            }
            _ => {}
        }
        true
    }

    /// The last piece, when the stream ends.
    pub(crate) fn finish(&mut self) -> Option<Piece<'_>> {
        if !self.inside() {
            return None;
        }
        if self.depth > 0 || self.in_string {
            return Some(Piece::Malformed("the stream ends inside a value"));
        }
        Some(Piece::Value(&self.buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonSplitter, Piece};

    fn pieces(parts: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut got) = (JsonSplitter::new(90), Vec::new());
        let show = |p: Piece<'_>| match p {
            Piece::Value(v) => String::from_utf8_lossy(v).into_owned(),
            other => format!("{other:?}"),
        };
        let followed = parts.iter().all(|part| {
            splitter.feed(part, &mut |p| {
                got.push(show(p));
                true
            })
        });
        if followed {
            got.extend(splitter.finish().map(show));
        }
        got
    }

    #[test]
    fn parts_make_no_difference() {
        let texts: [&[u8]; 8] = [
            br#"{"a":"}\"]","b":[1,{}]}[]  17 "x\\" true{"c":1}null"#,
            b"{\"a\":\"b\nc\"} {}",
            b"]junk {}\n{} [",
            b"\"\\\"\n\" 1",
            b"\xef\xbb\xbf{} \x00 {}",
            b"1234567890 [\"1234567890\", \"1234567890\", \"1234567890\", \"1234567890\", \"1234567890\", \"1234567890\", \"1234567890\"]",
            b"\"ab\"\"cd\"[1]2",
            b"[[[[\"a\",[]]]]]{",
        ];
        for text in texts {
            let whole = pieces(&[text]);
            for at in 0..=text.len() {
                assert_eq!(pieces(&[&text[..at], &text[at..]]), whole, "{text:?} cut at {at}");
            }
            assert_eq!(pieces(&text.chunks(1).collect::<Vec<_>>()), whole);
        }
        assert_eq!(
            pieces(&[texts[0]]),
            [r#"{"a":"}\"]","b":[1,{}]}"#, "[]", "17", r#""x\\""#, "true", r#"{"c":1}"#, "null"]
        );
        assert_eq!(pieces(&[texts[5]]), ["1234567890", "TooLong"]);
    }
}
