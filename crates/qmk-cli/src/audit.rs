//! `qmk audit`: the audit log of a server, which records every request and decision. `head` and `prove` ask the server;
//! `log` and `verify` read the files.

use crate::args::ServerArgs;
use crate::connect::connect;
use crate::failure::Failure;
use crate::output::{print, print_fields};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use qmk_abi::rpc::{AuditHead, AuditProve, AuditQuery, Reply, Request};
use qmk_journal::{JournalError, ProvenEntry, PublicKey, SignedHead};
use qmk_services::store::{Entry, journal_dir, unsigned_tail};
use serde_json::{Value, json};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Print the signed head of a server's log; keep it, and later nothing before it can be changed unnoticed
    #[command(after_help = "Example:\n  qmk audit head --json > head.json")]
    Head(ServerArgs),
    /// Print an entry of one's own and check the proof that the log has it
    #[command(after_help = "Example:\n  qmk audit prove 12 --connect unix:/tmp/qmk.sock")]
    Prove {
        /// Position of the entry in the log
        index: u64,
        /// The key that the proof must lead to, such as a copy of `journal/key.pub` [default: what the server says]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Print the entries of a log on this machine
    #[command(after_help = "Example:\n  qmk audit log /var/lib/qmk --json | jq '.[] | select(.event.refused)'")]
    Log {
        /// Data directory of a server, or the journal in it
        dir: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Check a log on this machine: all checksums, hashes and signatures; a server may be using it
    #[command(
        after_help = "Examples:\n  qmk audit verify /var/lib/qmk\n  qmk audit verify backup/journal --key key.pub --head head.json\n\n\
                      Exit codes: 0 nothing is wrong, 1 something is, and it says where"
    )]
    Verify {
        /// Data directory of a server, or the journal in it
        dir: PathBuf,
        /// The key that heads must be signed with, such as a copy of `journal/key.pub`
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// A head that was kept, as printed by `qmk audit head --json`; may be given more than once
        #[arg(long = "head", value_name = "FILE")]
        heads: Vec<PathBuf>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(command: &Audit) -> Result<(), Failure> {
    match command {
        Audit::Head(server) => match connect(server)?.call(Request::AuditHead(AuditQuery {}))? {
            Reply::AuditHead(head) => print_fields(&json!(head), server.json),
            other => Err(unexpected(&other)),
        },
        Audit::Prove { index, key, server } => prove(*index, key.as_deref(), server),
        Audit::Log { dir, json } => log(dir, *json),
        Audit::Verify { dir, key, heads, json } => verify(dir, key.as_deref(), heads, *json),
    }
}

fn unexpected(reply: &Reply) -> Failure {
    Failure::new(4, "PROTOCOL", format!("unexpected reply {reply:?}"))
}

fn io(file: &Path, e: impl std::fmt::Display) -> Failure {
    Failure::new(1, "IO", format!("{}: {e}", file.display()))
}

fn read_key(file: &Path) -> Result<PublicKey, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| io(file, e))?;
    text.trim_end().parse().map_err(|e| io(file, e))
}

/// The directory of the journal in `dir`, or `dir` itself.
fn journal_in(dir: &Path) -> Result<PathBuf, Failure> {
    let journal = journal_dir(dir);
    match journal.join("log").metadata() {
        Ok(_) => Ok(journal),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(io(
            dir,
            "no audit log is there; expected the data directory of a server, or the directory `journal` in it",
        )),
        Err(e) => Err(io(dir, e)),
    }
}

/// A head of the session protocol as a head of the journal.
fn signed(head: &AuditHead) -> Option<SignedHead> {
    let AuditHead { origin, size, root, signature, .. } = head;
    serde_json::from_value(json!({"origin": origin, "size": size, "root": root, "signature": signature})).ok()
}

fn prove(index: u64, key: Option<&Path>, server: &ServerArgs) -> Result<(), Failure> {
    let client = connect(server)?;
    let session = client.observe(server.tenant.as_deref())?;
    let session_id = session.info().session_id.clone();
    let proof = match client.call(Request::AuditProve(AuditProve { session_id, index }))? {
        Reply::AuditProof(proof) => proof,
        other => return Err(unexpected(&other)),
    };
    let wrong = |what: &str| Failure::new(1, "AUDIT", format!("the server's proof of entry {index} {what}"));
    let key = match key {
        Some(file) => read_key(file)?,
        None => proof.head.key.parse().map_err(|_| wrong("has no key"))?,
    };
    let proven = json!({"index": proof.index, "entry": proof.entry, "path": proof.path, "head": signed(&proof.head)});
    let proven: ProvenEntry = serde_json::from_value(proven).map_err(|e| wrong(&format!("is malformed: {e}")))?;
    if proven.index != index || !proven.verify(&key) {
        return Err(wrong("does not hold"));
    }
    if server.json {
        return print_fields(&json!({"entry": described(index, &proven.entry), "proof": proof}), true);
    }
    print(&format!("{}\nproven under the head of {} entries\n", line(index, &proven.entry), proof.head.size))
}

/// An entry as JSON, its position first.
fn described(index: u64, bytes: &[u8]) -> Value {
    let mut v = Entry::decode(bytes).map_or_else(|| json!({"event": "unknown"}), |entry| json!(entry));
    if let Value::Object(members) = &mut v {
        members.shift_insert(0, "index".into(), index.into());
    }
    v
}

fn line(index: u64, bytes: &[u8]) -> String {
    let Some(entry) = Entry::decode(bytes) else { return format!("{index}  (of another version)") };
    let event = serde_json::to_value(&entry.event).unwrap_or_default();
    let name = event.as_object().and_then(|m| m.keys().next()).map_or("", String::as_str);
    let mut text = format!("{index:>6}  {}  {:<12}  {name}", time(entry.at_ms), entry.tenant.unwrap_or("-"));
    for (key, v) in event.get(name).and_then(Value::as_object).into_iter().flatten() {
        // A text may be long; --json prints it whole.
        let v = v.as_str().map_or_else(|| v.to_string(), |s| format!("{:?}", s.chars().take(40).collect::<String>()));
        text += &format!(" {key}={v}");
    }
    text
}

/// Milliseconds since 1970 as a time of UTC, by Howard Hinnant's algorithm for dates.
fn time(ms: u64) -> String {
    let (day, left) = (ms / 86_400_000, ms % 86_400_000);
    let z = day + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (d, m) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let y = year + era * 400 + u64::from(m <= 2);
    let (h, min, s) = (left / 3_600_000, left / 60_000 % 60, left / 1000 % 60);
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{:03}Z", left % 1000)
}

/// Prints entries while it reads them, because a log may hold millions.
fn log(dir: &Path, json: bool) -> Result<(), Failure> {
    let entries = qmk_journal::scan(&journal_in(dir)?).map_err(|e| io(dir, e))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut damage = None;
    let printed = || {
        let mut first = true;
        for entry in entries {
            match entry {
                Ok((index, bytes)) if json => {
                    write!(out, "{}{}", if first { "[" } else { ",\n" }, described(index, &bytes))?;
                }
                Ok((index, bytes)) => writeln!(out, "{}", line(index, &bytes))?,
                Err(e) => {
                    damage = Some(e);
                    break;
                }
            }
            first = false;
        }
        if json {
            writeln!(out, "{}", if first { "[]" } else { "]" })?;
        }
        out.flush()
    };
    match printed() {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(io(Path::new("standard output"), e)),
        _ => {}
    }
    if let Some(e) = damage {
        eprintln!("qmk: {}: {e}", dir.display());
        return Err(Failure::silent(1));
    }
    Ok(())
}

fn verify(dir: &Path, key: Option<&Path>, heads: &[PathBuf], json: bool) -> Result<(), Failure> {
    let journal = journal_in(dir)?;
    let key = key.map(read_key).transpose()?;
    let heads = heads.iter().map(|file| {
        let text = std::fs::read_to_string(file).map_err(|e| io(file, e))?;
        let head = serde_json::from_str::<AuditHead>(&text).ok();
        head.as_ref().and_then(signed).ok_or_else(|| io(file, "not a head as `qmk audit head --json` prints it"))
    });
    let heads = heads.collect::<Result<Vec<_>, _>>()?;
    let (start, mut bar) = (Instant::now(), None);
    let checked = qmk_journal::verify_with(&journal, key.as_ref(), &heads, &mut |done, all| {
        if start.elapsed() > Duration::from_millis(300) {
            let bar = bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
                ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_position(done);
        }
    });
    let checked = checked.and_then(|v| match unsigned_tail(&journal, v.signed, v.entries)? {
        Some(damage) => Err(damage.into()),
        None => Ok(v),
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match checked {
        Ok(v) if json => {
            let mut document = json!({"valid": true});
            if let (Value::Object(m), Value::Object(found)) = (&mut document, json!(v)) {
                m.extend(found);
            }
            print(&format!("{document}\n"))
        }
        Ok(v) => print(&format!(
            "{}: {} entries, {} of them under {} signed heads; root {}\n",
            dir.display(),
            v.entries,
            v.signed,
            v.heads,
            v.root
        )),
        Err(JournalError::Damaged(damage)) => {
            // The damage on standard output is the report, so the failure prints nothing.
            if json {
                let entries = damage.entries.as_ref().map(|e| [e.start, e.end]);
                let (file, offset, what) = (damage.file, damage.offset, damage.what);
                let document =
                    json!({"valid": false, "file": file, "offset": offset, "entries": entries, "message": what});
                print(&format!("{document}\n"))?;
            } else {
                print(&format!("{}: {damage}\n", journal.display()))?;
            }
            Err(Failure::silent(1))
        }
        Err(e) => Err(io(dir, e)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(super::time(ms), text);
        }
    }
}
