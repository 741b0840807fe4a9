//! Entries that should be under a signed head.

use super::event::{Entry, Event};
use super::settler::HEAD_INTERVAL;
use qmk_journal::{Damage, JournalError, scan_from};
use std::path::Path;

/// A head may come later than it is due, as disks may be slow.
const LATE: u64 = 3 * HEAD_INTERVAL.as_millis() as u64;

/// Looks for entries of a machine's journal, from `signed` to `entries`, that the machine would have put under a head:
/// it does so with all that there is when it starts, and every few seconds then. So whatever a sudden end leaves
/// without a head is of one run, and of its last seconds.
///
/// # Errors
///
/// If the log cannot be read.
pub fn unsigned_tail(journal: &Path, signed: u64, entries: u64) -> Result<Option<Damage>, JournalError> {
    let (mut booted, mut first) = (false, None);
    for next in scan_from(journal, signed)? {
        let (index, bytes) = next?;
        if index < signed {
            continue;
        }
        if index >= entries {
            break;
        }
        let Some(entry) = Entry::decode(&bytes) else { break };
        if let Event::Booted { .. } = entry.event {
            // More than one start may have ended before its head.
            booted = true;
            continue;
        }
        if booted || entry.at_ms.saturating_sub(*first.get_or_insert(entry.at_ms)) > LATE {
            let what =
                "there is no signed head of these entries, and there should be: heads have been lost or taken out";
            let offset = std::fs::metadata(journal.join("heads")).map_or(0, |heads| heads.len());
            return Ok(Some(Damage { file: "heads", offset, entries: Some(signed..entries), what }));
        }
    }
    Ok(None)
}
