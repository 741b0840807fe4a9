//! Recordings of what must not change: files in a folder, compared byte for byte.
//!
//! A test makes each text or log anew and hands it to [`Pins`]; [`Pins::finish`] fails if any byte differs from the
//! file of that name, and says which file and where. It fails as well for a file that is missing, and for one that no
//! test makes.
//!
//! With `QMK_PINS=write` the files are written instead. That is allowed in two cases only: a commit whose very purpose
//! is to change what users see, and which says so; or a commit that adds recordings and leaves the bytes of all others
//! as they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bytes shown on each side of a difference.
const AROUND: usize = 60;

/// A folder of recordings.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
    writes: bool,
    seen: BTreeSet<PathBuf>,
    wrong: Vec<String>,
}

impl Pins {
    /// The recordings in a folder.
    pub fn of(folder: &Path) -> Self {
        let writes = std::env::var_os("QMK_PINS").is_some_and(|v| v == "write");
        Pins { folder: folder.into(), writes, seen: BTreeSet::new(), wrong: Vec::new() }
    }

    /// The bytes of a recording, if there is one.
    pub fn recorded(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(name)).ok()
    }

    /// Compares, or writes.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn check(&mut self, name: &str, now: &[u8]) {
        let path = self.folder.join(name);
        if self.writes {
            std::fs::create_dir_all(&self.folder).and_then(|()| std::fs::write(&path, now)).expect("a file to write");
        } else {
            match std::fs::read(&path) {
                Ok(recorded) => self.wrong.extend(difference(&recorded, now).map(|d| format!("{}{d}", path.display()))),
                Err(e) => self.wrong.push(format!("{}: {e}", path.display())),
            }
        }
        self.seen.insert(path);
    }

    /// Ends the comparison.
    ///
    /// # Panics
    /// With all differences, if there are any.
    pub fn finish(mut self) {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|e| e.path());
        for path in files.filter(|p| p.is_file() && !self.seen.contains(p)) {
            self.wrong.push(format!("{}: nothing makes this recording any more", path.display()));
        }
        assert!(self.wrong.is_empty(), "{} recordings differ\n{}", self.wrong.len(), self.wrong.join("\n"));
    }
}

/// Where two sequences of bytes part, with what stands there.
fn difference(recorded: &[u8], now: &[u8]) -> Option<String> {
    if recorded == now {
        return None;
    }
    let at = recorded.iter().zip(now).take_while(|(a, b)| a == b).count();
    let line = 1 + recorded[..at].iter().filter(|&&b| b == b'\n').count();
    let show = |bytes: &[u8]| {
        let part = &bytes[at.saturating_sub(AROUND)..bytes.len().min(at + AROUND)];
        String::from_utf8_lossy(part).escape_debug().to_string()
    };
    Some(format!(":{line}: byte {at} differs\n  recorded {}\n  now      {}", show(recorded), show(now)))
}

/// Replaces the values of what differs from run to run by `*`: times in milliseconds, and random ids.
pub fn without_volatile(text: &str) -> String {
    const TIMES: [&str; 5] =
        ["\"wall_ms\":", "\"execution_time_ms\":", "\"age_ms\":", "\"uptime_ms\":", "\"retry_after_ms\":"];
    const IDS: [&str; 2] = ["sess_", "chan_"];
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(next) = rest.chars().next() {
        let time = TIMES.iter().find(|t| rest.starts_with(**t));
        if let Some(prefix) = time.or_else(|| IDS.iter().find(|i| rest.starts_with(**i))) {
            let value = rest[prefix.len()..].trim_start_matches(' ');
            let plain = |c: char| match time {
                Some(_) => !matches!(c, ',' | '}' | '\n'),
                None => c.is_ascii_hexdigit(),
            };
            let tail = value.trim_start_matches(plain);
            if tail.len() < value.len() {
                out = out + prefix + "*";
                rest = tail;
                continue;
            }
        }
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_located() {
        assert_eq!(difference(b"a\nbc", b"a\nbc"), None);
        let told = difference(b"a\nbc", b"a\nbd").unwrap();
        assert!(told.starts_with(":2: byte 3 differs"), "{told}");
        assert!(difference(b"a", b"ab").is_some() && difference(b"ab", b"a").is_some());
    }

    #[test]
    fn a_changed_a_missing_and_an_extra_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::write(folder.path().join(name), "text").unwrap();
        file("same");
        file("other");
        file("extra");
        let mut pins = Pins { writes: false, ..Pins::of(folder.path()) };
        pins.check("same", b"text");
        pins.check("other", b"texts");
        pins.check("missing", b"");
        assert_eq!(pins.wrong.len(), 2, "{:?}", pins.wrong);
        let told = std::panic::catch_unwind(|| pins.finish()).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(told.contains("3 recordings") && told.contains("extra: nothing makes"), "{told}");
    }

    #[test]
    fn times_and_ids_are_struck_out() {
        let text = r#"{"wall_ms":1.25,"session_id":"sess_0af3","shots":3,"age_ms": 17}"#;
        assert_eq!(without_volatile(text), r#"{"wall_ms":*,"session_id":"sess_*","shots":3,"age_ms":*}"#);
        assert_eq!(without_volatile("no sess_ id"), "no sess_ id");
    }
}
