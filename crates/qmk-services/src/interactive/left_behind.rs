//! Qubits and checkpoints of sessions that make no calls any more. They come back after a time, or one session could
//! keep them from all others for ever.

use crate::state::State;
use qmk_kernel::hal::Device;
use std::time::{Duration, Instant};

/// How often sessions are looked through.
const EVERY: Duration = Duration::from_secs(1);
/// Qubits and checkpoints that are taken back at once. Calls wait meanwhile.
const AT_ONCE: usize = 512;

impl<D: Device> State<D> {
    /// Takes back what is held by sessions whose last call was too long ago, some at a time.
    pub(crate) fn take_back(&mut self, now: Instant) {
        let Some(patience) = self.config.held_idle.filter(|_| now >= self.next_look) else { return };
        let left_behind = |called: Instant, held: usize| held > 0 && now.saturating_duration_since(called) >= patience;
        let found = self.sessions.iter().find(|(_, s)| left_behind(s.called, s.held.count()));
        let Some(id) = found.map(|(id, _)| id.clone()) else {
            self.next_look = now + EVERY.min(patience);
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (tenant, taken) = (session.tenant.clone(), session.held.take(AT_ONCE));
        tracing::info!(
            tenant,
            count = taken.len(),
            "qubits and checkpoints of a session that makes no calls came back"
        );
        let domain = self.tenants[&tenant].domain;
        for handle in taken {
            if let Err(e) = self.delete(domain, handle) {
                tracing::warn!(tenant, reason = e.message, "a capability of a session that makes no calls stays");
            }
        }
    }
}
