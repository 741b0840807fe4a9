//! The ratchet: offenders that stay, each with its size and its reason. The list may only shrink.

use super::finding::{Class, Finding};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Name of the list, at the root of the workspace's `xtask`.
pub(super) const FILE: &str = "xtask/tidy.toml";

/// Classes, their offenders, and why each stays.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Ratchet {
    classes: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    size: usize,
    why: String,
}

impl Ratchet {
    pub(super) fn parse(text: &str) -> Result<Ratchet, String> {
        let ratchet: Ratchet = toml::from_str(text).map_err(|e| format!("{FILE}: {e}"))?;
        for (class, entries) in &ratchet.classes {
            if !Class::RATCHETED.iter().any(|(_, name)| name == class) {
                return Err(format!("{FILE}: no offender of the class {class} may stay"));
            }
            if let Some((key, _)) = entries.iter().find(|(_, entry)| entry.why.trim().is_empty()) {
                return Err(format!("{FILE}: {key:?} of {class} has no reason"));
            }
        }
        Ok(ratchet)
    }

    /// What must change: findings that are not listed or larger than listed, and entries that are larger than what is
    /// found.
    pub(super) fn apply(&self, findings: &[Finding]) -> Vec<String> {
        let mut wrong = Vec::new();
        for finding in findings {
            match self.entry(finding) {
                None => wrong.push(finding.to_string()),
                Some(entry) if finding.size > entry.size => {
                    wrong.push(format!("{finding}; {FILE} lists {}, and it may only shrink", entry.size));
                }
                Some(entry) if finding.size < entry.size => wrong.push(format!(
                    "{FILE}: {:?} is down to {} from {}: list it so",
                    finding.key(),
                    finding.size,
                    entry.size
                )),
                Some(_) => {}
            }
        }
        for (class, name) in Class::RATCHETED {
            for key in self.classes.get(name).into_iter().flat_map(BTreeMap::keys) {
                if !findings.iter().any(|f| f.class == class && f.key() == *key) {
                    wrong.push(format!("{FILE}: {key:?} of {name} offends no more: take it off the list"));
                }
            }
        }
        wrong
    }

    fn entry(&self, finding: &Finding) -> Option<&Entry> {
        let (_, name) = Class::RATCHETED.iter().find(|(class, _)| *class == finding.class)?;
        self.classes.get(*name)?.get(&finding.key())
    }

    /// The list that today's findings make. Reasons are kept; a new offender has none yet.
    pub(super) fn list(&self, findings: &[Finding]) -> String {
        let mut text = String::from(
            "# Offenders that `cargo xtask tidy` lets stay: how large each is, and why. The list may only shrink.\n\
             # `cargo xtask tidy --list` prints today's.\n",
        );
        for (class, name) in Class::RATCHETED {
            let mut offenders: Vec<&Finding> = findings.iter().filter(|f| f.class == class).collect();
            offenders.sort_by_key(|f| f.key());
            _ = writeln!(text, "\n[{name}]");
            for finding in offenders {
                let why = self.entry(finding).map_or("", |e| e.why.as_str());
                _ = writeln!(text, "{:?} = {{ size = {}, why = {why:?} }}", finding.key(), finding.size);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(item: &str, size: usize) -> Finding {
        let (class, file, text) = (Class::LongFunction, "src/a.rs".into(), "long".into());
        Finding { class, file, line: 7, item: item.into(), size, text }
    }

    fn list(entries: &str) -> Ratchet {
        Ratchet::parse(&format!("[long_functions]\n{entries}")).unwrap()
    }

    #[test]
    fn what_is_listed_at_its_size_passes() {
        let ratchet = list("\"src/a.rs walk\" = { size = 80, why = \"one table\" }");
        assert!(ratchet.apply(&[finding("walk", 80)]).is_empty());
    }

    #[test]
    fn it_only_turns_one_way() {
        let ratchet = list("\"src/a.rs walk\" = { size = 80, why = \"one table\" }");
        for (found, expected) in [
            (vec![finding("walk", 81)], "it may only shrink"),
            (vec![finding("walk", 79)], "is down to 79 from 80"),
            (vec![], "offends no more"),
            (vec![finding("walk", 80), finding("run", 90)], "src/a.rs:7: long function"),
        ] {
            let wrong = ratchet.apply(&found);
            assert!(wrong.len() == 1 && wrong[0].contains(expected), "{wrong:?}");
        }
    }

    #[test]
    fn entries_need_a_reason_and_a_class_that_may_have_any() {
        for text in [
            "[long_functions]\n\"a b\" = { size = 1, why = \" \" }",
            "[circles]\n\"a\" = { size = 2, why = \"old\" }",
            "[long_functions]\n\"a b\" = { size = 1, why = \"x\", more = 1 }",
        ] {
            assert!(Ratchet::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_list_keeps_reasons_and_reads_back() {
        let ratchet = list("\"src/a.rs walk\" = { size = 80, why = \"one \\\"table\\\"\" }");
        let text = ratchet.list(&[finding("walk", 75)]);
        assert!(Ratchet::parse(&text).unwrap().apply(&[finding("walk", 75)]).is_empty(), "{text}");
        let text = ratchet.list(&[finding("run", 75)]);
        assert!(Ratchet::parse(&text).is_err_and(|e| e.contains("no reason")), "{text}");
    }
}
