//! Turns at building programs. A program is built on the thread of its client and may take a thousand times the memory
//! of its text, so large programs take turns.

use parking_lot::{Condvar, Mutex};
use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_qvm::ParseOptions;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Programs up to this size, and of no more work than these many steps of the macro language, take no turns.
const SOURCE: usize = 64 << 10;
const NODES: usize = 4096;
const STEPS: usize = 1 << 16;

/// Maximum wait for a turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of programs that wait.
const QUEUE: usize = 256;

/// Turns at building: one for each tenant, and in all as many as there are processors.
pub(crate) struct BuildQueue {
    turns: Mutex<Turns>,
    free: Condvar,
    most: usize,
}

#[derive(Default)]
struct Turns {
    building: BTreeSet<String>,
    waiting: BTreeMap<u64, String>,
    next: u64,
}

impl Turns {
    /// The one whose turn it is: the first of those whose tenant is not building.
    fn first(&self) -> Option<u64> {
        self.waiting.iter().find(|(_, tenant)| !self.building.contains(*tenant)).map(|(&n, _)| n)
    }
}

/// A turn; it ends with the value.
pub(crate) struct Turn<'a>(&'a BuildQueue, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.turns.lock().building.remove(&self.1);
        self.0.free.notify_all();
    }
}

impl Default for BuildQueue {
    fn default() -> Self {
        // Two at least, so that no tenant keeps the others waiting.
        BuildQueue::new(std::thread::available_parallelism().map_or(2, |n| n.get().max(2)))
    }
}

impl BuildQueue {
    fn new(most: usize) -> Self {
        BuildQueue { turns: Mutex::default(), free: Condvar::new(), most }
    }

    fn turn(&self, tenant: &str, patience: Duration) -> Result<Turn<'_>, RpcError> {
        let busy = |what: &str| RpcError::new(ErrorCode::ResourceExhausted, format!("{what}; try again later"));
        let mut turns = self.turns.lock();
        if turns.waiting.len() >= QUEUE {
            return Err(busy("too many large programs wait to be built"));
        }
        let me = turns.next;
        turns.next += 1;
        turns.waiting.insert(me, tenant.into());
        let end = Instant::now() + patience;
        while turns.building.len() >= self.most || turns.first() != Some(me) {
            if self.free.wait_until(&mut turns, end).timed_out() {
                turns.waiting.remove(&me);
                self.free.notify_all();
                let s = patience.as_secs();
                return Err(busy(&format!("other large programs, of which a tenant builds one at a time, took {s} s")));
            }
        }
        turns.waiting.remove(&me);
        turns.building.insert(tenant.into());
        drop(turns);
        // The next one may have a turn, too.
        self.free.notify_all();
        Ok(Turn(self, tenant.into()))
    }
}

/// Works on a program. A small one is worked on at once; a large one waits for a turn.
pub(crate) fn in_turn<T>(
    builds: &BuildQueue,
    tenant: &str,
    length: usize,
    options: &ParseOptions,
    mut work: impl FnMut(&ParseOptions) -> Result<T, RpcError>,
) -> Result<T, RpcError> {
    if length <= SOURCE {
        let nodes = Some(options.max_nodes.map_or(NODES, |most| most.min(NODES)));
        let small = ParseOptions { max_nodes: nodes, max_steps: Some(STEPS), ..options.clone() };
        match work(&small) {
            // The limits of a small program are not those of the tenant.
            Err(e) if e.findings.iter().any(|f| f.code == "E-LIMIT") => {}
            done => return done,
        }
    }
    let _turn = builds.turn(tenant, PATIENCE)?;
    work(options)
}

#[cfg(test)]
mod tests {
    use super::{BuildQueue, NODES, PATIENCE, SOURCE, in_turn};
    use qmk_abi::rpc::{ErrorCode, Finding, RpcError, Severity};
    use qmk_qvm::ParseOptions;
    use std::time::Duration;

    #[test]
    fn a_tenant_has_one_turn_and_the_machine_as_many_as_it_has() {
        let builds = BuildQueue::new(2);
        let (now, late) = (Duration::ZERO, |r: Result<_, RpcError>| r.map(|_| ()).unwrap_err().code);
        let a = builds.turn("a", PATIENCE).unwrap();
        assert_eq!(late(builds.turn("a", now)), ErrorCode::ResourceExhausted);
        let b = builds.turn("b", PATIENCE).unwrap();
        assert_eq!(late(builds.turn("c", now)), ErrorCode::ResourceExhausted);
        drop(a);
        assert_eq!(late(builds.turn("b", now)), ErrorCode::ResourceExhausted);
        // Who waits for itself is no hindrance to others.
        std::thread::scope(|scope| {
            let again = scope.spawn(|| builds.turn("b", PATIENCE).map(drop));
            while builds.turns.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            drop(builds.turn("c", PATIENCE).unwrap());
            drop(b);
            again.join().unwrap().unwrap();
        });
        let left = builds.turns.lock();
        assert!(left.building.is_empty() && left.waiting.is_empty());
    }

    #[test]
    fn small_programs_take_no_turn_and_those_that_turn_out_large_do() {
        let builds = BuildQueue::new(1);
        let held = builds.turn("other", PATIENCE).unwrap();
        let options = ParseOptions::default();
        assert_eq!(in_turn(&builds, "a", 10, &options, |_| Ok(1)), Ok(1));
        drop(held);
        let limit = || {
            let mut e = RpcError::new(ErrorCode::InvalidGraph, "");
            let (code, severity) = ("E-LIMIT".into(), Severity::Error);
            e.findings = vec![Finding { code, severity, node: None, line: None, message: String::new() }];
            e
        };
        let mut seen = Vec::new();
        let mut work = |o: &ParseOptions| {
            seen.push((o.max_nodes, builds.turns.lock().building.len()));
            if o.max_nodes == Some(NODES) { Err(limit()) } else { Ok(2) }
        };
        assert_eq!(in_turn(&builds, "a", 10, &options, &mut work), Ok(2));
        assert_eq!(in_turn(&builds, "a", SOURCE + 1, &options, &mut work), Ok(2));
        assert_eq!(seen, [(Some(NODES), 0), (None, 1), (None, 1)]);
        assert!(builds.turns.lock().building.is_empty());
    }
}
