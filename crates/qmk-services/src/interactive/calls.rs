//! The calls, which wait where epochs are needed.

use super::operations::operations;
use crate::connection::Connection;
use crate::errors::{Refused, invalid, kernel_error};
use crate::state::State;
use qmk_abi::rpc::RpcError;
use qmk_abi::rpc::interactive::*;
use qmk_abi::syscall::Limit;
use qmk_abi::{KernelError, Rights, Syscall};
use qmk_kernel::hal::Device;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a call waits for magic states and pairs.
const PATIENCE: Duration = Duration::from_secs(2);
/// Qubits taken before others get in between.
const CHUNK: usize = 64;

impl<D: Device + Send + 'static> Connection<D> {
    /// Tries until it can be done, while the machine runs epochs. The lock is given up in between, so an attempt looks
    /// everything up again.
    pub(crate) fn patiently<T>(
        &self,
        mut attempt: impl FnMut(&mut State<D>) -> Result<T, Refused>,
    ) -> Result<T, RpcError> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        loop {
            self.shared.check_running()?;
            match attempt(&mut state) {
                Ok(done) => return Ok(done),
                Err(Refused::Final(e)) => return Err(e),
                Err(Refused::NotYet(mut e)) => {
                    if Instant::now() >= deadline || state.stopping {
                        e.message += &format!("; it was not so within {} s", PATIENCE.as_secs());
                        return Err(e);
                    }
                    state.waiting += 1;
                    self.shared.work.notify_all();
                    self.shared.ticked.wait_until(&mut state, deadline);
                    state.waiting -= 1;
                }
            }
        }
    }

    pub(crate) fn interactive(&self, call: Call) -> Result<Answer, RpcError> {
        let state = || self.shared.state.lock();
        Ok(match call {
            Call::Alloc(p) => Answer::Alloc(self.alloc(&p)?),
            Call::Apply(p) => Answer::Apply(self.apply(&p)?),
            Call::Measure(p) => Answer::Measure(self.measure(p)?),
            Call::Release(p) => Answer::Release(self.release(p)?),
            Call::Rollback(p) => Answer::Rollback(self.patiently(|s| s.rollback(&p))?),
            Call::OpenChannel(p) => Answer::OpenChannel(state().open_channel(&p)?),
            Call::AcceptChannel(p) => Answer::AcceptChannel(self.patiently(|s| s.accept_channel(&p))?),
            Call::UseChannel(p) => Answer::UseChannel(self.patiently(|s| s.use_channel(&p))?),
            Call::CloseChannel(p) => Answer::CloseChannel(state().close_channel(&p)?),
            Call::ChannelStatus(p) => Answer::ChannelStatus(state().channel_status(&p)?),
            Call::ChannelList(p) => Answer::ChannelList(state().list_channels(&p.session_id)?),
            Call::Checkpoint(p) => Answer::Checkpoint(self.patiently(|s| s.checkpoint(&p))?),
            Call::Restore(p) => {
                let restored = self.patiently(|s| s.restore(&p))?;
                self.shared.work.notify_all();
                Answer::Restore(restored)
            }
            Call::DropCheckpoint(p) => Answer::DropCheckpoint(state().drop_checkpoint(&p)?),
            Call::Migrate(p) => Answer::Migrate(state().migrate(&p)?),
            Call::Mapping(p) => Answer::Mapping(self.mapping(&p)?),
            Call::Replay(p) => Answer::Replay(self.replay(&p)?),
        })
    }

    fn alloc(&self, p: &Alloc) -> Result<Allocated, RpcError> {
        {
            let mut state = self.shared.state.lock();
            let (domain, _) = state.may(&p.session_id, Rights::ALLOC)?;
            if p.n == 0 {
                return invalid("n must be at least 1");
            }
            if let qmk_abi::Reply::Usage { used, quota } = state.call(domain, Syscall::Usage)?
                && p.n > quota.qubits - used.qubits
            {
                return Err(kernel_error(KernelError::Quota(Limit::Qubits)));
            }
        }
        let mut qubits = Vec::new();
        while qubits.len() < p.n as usize {
            let taken = self.patiently(|state| {
                let most = CHUNK.min(p.n as usize - qubits.len());
                let before = qubits.len();
                state.take_qubits(&p.session_id, most, &mut qubits).or_else(|e| match e {
                    // All free qubits were taken; the next attempt is for the rest.
                    Refused::NotYet(_) if qubits.len() > before => Ok(()),
                    e => Err(e),
                })
            });
            if let Err(e) = taken {
                // All or none.
                let mut state = self.shared.state.lock();
                for name in &qubits {
                    _ = state.release(&p.session_id, name, false);
                }
                return Err(e);
            }
        }
        Ok(Allocated { qubits })
    }

    fn apply(&self, p: &Apply) -> Result<Applied, RpcError> {
        // Without a session, the reply must not depend on the operation.
        self.shared.state.lock().session(&p.session_id)?;
        let mut ops = operations(p)?;
        let mut applied = Applied { outcomes: Vec::new(), until_epoch: 0 };
        self.patiently(|state| state.perform(p, &mut ops, &mut applied))?;
        Ok(applied)
    }

    fn measure(&self, p: Measure) -> Result<Measured, RpcError> {
        let op = match (p.basis.as_deref(), p.angle) {
            (None, Some(_)) => "MEASURE_ANGLE",
            (None | Some("z" | "Z"), None) => "MEASURE_Z",
            (Some("x" | "X"), None) => "MEASURE_X",
            (Some("y" | "Y"), None) => "MEASURE_Y",
            (Some(_), Some(_)) => return invalid("give either an angle or a basis"),
            (Some(other), None) => {
                let shown: String = other.chars().take(20).collect();
                return invalid(format!("unknown basis {shown:?}; known: z, x, y, or an angle"));
            }
        };
        let apply = Apply { session_id: p.session_id, op: op.into(), qubits: vec![p.qubit], theta: p.angle };
        let applied = self.apply(&apply)?;
        Ok(Measured { outcome: applied.outcomes.first().copied().unwrap_or(0), until_epoch: applied.until_epoch })
    }

    fn release(&self, p: Release) -> Result<Released, RpcError> {
        {
            let state = self.shared.state.lock();
            state.session(&p.session_id)?;
            p.qubits.iter().try_for_each(|q| state.qubit(&p.session_id, q).map(drop))?;
            if p.qubits.iter().collect::<BTreeSet<_>>().len() < p.qubits.len() {
                return invalid("a qubit is named twice");
            }
        }
        let mut done = Released { released: Vec::new(), dirty: Vec::new(), undone: 0 };
        for name in &p.qubits {
            let (dirty, undone) =
                self.patiently(|state| state.release(&p.session_id, name, p.uncompute)).map_err(|mut e| {
                    if !done.released.is_empty() {
                        e.message += &format!("; {} qubits were released before {name}", done.released.len());
                    }
                    e
                })?;
            done.released.push(name.clone());
            done.undone += u64::from(undone);
            if dirty {
                done.dirty.push(name.clone());
            }
        }
        Ok(done)
    }
}
