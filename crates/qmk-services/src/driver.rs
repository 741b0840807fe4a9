//! The thread that advances the kernel, and one turn of it. A connection's thread may take turns for half a
//! millisecond, so that a short job needs no hand-over.

use crate::model::job::completed;
use crate::state::{Shared, State};
use parking_lot::{Condvar, MutexGuard};
use qmk_kernel::hal::Device;
use qmk_kernel::{Clock, Kernel};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Target duration of an epoch: callers wait for at most one.
const EPOCH: Duration = Duration::from_millis(10);
/// Epochs that may pass in one turn while one program has the machine to itself. Calls find a longer program at work.
const AT_ONCE: u64 = 1 << 16;

/// Advances the kernel while any strand lives or has outcomes to read. A panic stops the machine: the kernel may be in
/// any state.
pub(crate) fn drive<D: Device>(shared: &Shared<D>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| advance(shared))) {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        shared.stop(&format!("the thread of the kernel panicked: {}", text.unwrap_or("no reason given")));
    }
}

fn advance<D: Device>(shared: &Shared<D>) {
    let mut state = shared.state.lock();
    while !state.stopping {
        if !state.driving {
            let mut state = Driving::begin(&mut state);
            while !state.stopping && has_work(&state) {
                turn(shared, &mut state);
                // Callers wait no longer than one epoch.
                MutexGuard::bump(&mut state);
            }
        }
        if !state.stopping {
            shared.work.wait(&mut state);
        }
    }
}

/// Whether an epoch is of use to anyone: strands live or have outcomes to read, or a call waits for it. One that is not
/// would pass before the next call or after it, as threads happen to run, and the call would find more magic states or
/// fewer.
pub(crate) fn has_work<D>(state: &State<D>) -> bool {
    state.busy || state.waiting > 0 || !state.unfinished.is_empty()
}

/// Wakes the driver when dropped, so that it takes over after a panic. A caller that needs no driver forgets the value.
pub(crate) struct Woken<'a>(pub(crate) &'a Condvar);

impl Drop for Woken<'_> {
    fn drop(&mut self) {
        self.0.notify_all();
    }
}

/// Marks that this thread advances the kernel, until the value is dropped.
pub(crate) struct Driving<'a, 'b, D>(&'a mut MutexGuard<'b, State<D>>);

impl<'a, 'b, D> Driving<'a, 'b, D> {
    pub(crate) fn begin(state: &'a mut MutexGuard<'b, State<D>>) -> Self {
        state.driving = true;
        Driving(state)
    }
}

impl<'b, D> std::ops::Deref for Driving<'_, 'b, D> {
    type Target = MutexGuard<'b, State<D>>;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl<D> std::ops::DerefMut for Driving<'_, '_, D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0
    }
}

impl<D> Drop for Driving<'_, '_, D> {
    fn drop(&mut self) {
        self.0.driving = false;
    }
}

/// Runs one epoch, or several at once, collects outcomes and records results.
pub(crate) fn turn<D: Device>(shared: &Shared<D>, state: &mut MutexGuard<'_, State<D>>) {
    let start = Instant::now();
    state.take_back(start);
    // A call that waits looks again after each epoch.
    let most = if state.waiting > 0 { 1 } else { AT_ONCE };
    let report = state.kernel.advance_by(most);
    if has_stopped(shared, state) {
        return;
    }
    state.watched.issued += report.issued as u64;
    state.busy = report.busy;
    if !state.config.lockstep {
        let pace = adapt(state.pace, start.elapsed(), report.turns).min(Kernel::<D>::PACE);
        if pace != state.pace {
            state.pace = pace;
            state.kernel.set_clock(Clock::FreeRunning { pace });
        }
    }
    let collected = state.collect();
    if has_stopped(shared, state) {
        return;
    }
    state.busy |= collected.more;
    if shared.store.keeps() && !collected.started.is_empty() {
        let started = || collected.started.iter().for_each(|ticket| shared.store.started(ticket));
        MutexGuard::unlocked(state, started);
    }
    for job in collected.finished {
        let (session, ticket) = (job.session.clone(), job.ticket.clone());
        let result = if job.is_small() && !shared.store.keeps() {
            job.result()
        } else {
            let status = job.status.clone();
            // Writing outcome strings and records takes long; callers go on meanwhile.
            MutexGuard::unlocked(state, || {
                let result = job.result();
                if shared.store.keeps() {
                    shared.store.ended(&ticket, completed(&status, &result), Some(&result));
                }
                result
            })
        };
        state.keep(&session, ticket.job, result);
    }
    if state.waiting > 0 {
        shared.ticked.notify_all();
    }
    if collected.ended {
        shared.changed.notify_all();
    }
}

/// Whether the kernel is broken. The machine is stopped then, and nothing more of the kernel's is recorded.
fn has_stopped<D: Device>(shared: &Shared<D>, state: &mut State<D>) -> bool {
    let Some(reason) = state.kernel.broken().map(String::from) else { return false };
    shared.stop_locked(state, &reason);
    true
}

/// Steps per epoch after an epoch that `took` this long. The cost of a step depends on the device, so the pace follows
/// the clock: it halves at once, and grows by an eighth.
fn adapt(pace: u64, took: Duration, turns: u32) -> u64 {
    // An epoch of one turn may have been short because a strand under issue left no room for more.
    let informative = turns > 1 || pace < 4096;
    match turns {
        0 => pace,
        _ if took > EPOCH => (pace / 2).max(1),
        _ if took < EPOCH / 2 && informative => pace + pace / 8 + 1,
        _ => pace,
    }
}

#[cfg(test)]
mod tests {
    use super::{EPOCH, adapt};
    use std::time::Duration;

    #[test]
    fn the_pace_settles_where_an_epoch_takes_its_time() {
        // Nanoseconds of a step, and the least that a turn takes.
        for (step, least) in [(1, 1), (40, 1), (1_000, 1), (1, 4_000_000), (30_000, 4_000_000)] {
            let mut pace = 1 << 18;
            let mut took = Duration::ZERO;
            for _ in 0..200 {
                // As the kernel cuts it.
                let turns = (pace / 2048).clamp(1, 8);
                took = turns as u32 * Duration::from_nanos((step * (pace / turns).max(1)).max(least));
                pace = adapt(pace, took, turns as u32);
            }
            assert!(took < 2 * EPOCH && took > EPOCH / 4, "{pace} steps of {step} ns: {took:?}");
        }
        assert_eq!(adapt(100, 9 * EPOCH, 0), 100);
        assert_eq!(adapt(1 << 18, EPOCH / 100, 1), 1 << 18);
    }
}
