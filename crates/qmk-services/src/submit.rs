//! Submissions: a program is checked and built on the thread of its client, and then taken on.

use crate::build_queue::in_turn;
use crate::connection::{Built, Connection};
use crate::model::job::bytes_of_params;
use crate::program::{Program, noise_level};
use qmk_abi::Rights;
use qmk_abi::rpc::{ErrorCode, Format, JobSubmit, Policy, RpcError, Submitted};
use qmk_kernel::hal::Device;
use qmk_qvm::ParseOptions;
use std::sync::atomic::Ordering;

/// Bytes of the longest program that is kept for the next submission.
const BUILT_BYTES: usize = 64 << 10;
/// Maximum bytes of names and values of a program's parameters.
const PARAMS_BYTES: usize = 64 << 10;

impl<D: Device + Send + 'static> Connection<D> {
    pub(crate) fn submit(&self, p: JobSubmit) -> Result<Submitted, RpcError> {
        let (granted, max_shots, tenant) = {
            let state = self.shared.state.lock();
            let session = state.session(&p.session_id)?;
            (session.granted, state.max_shots(&session.tenant), session.tenant.clone())
        };
        let policy = &p.policy;
        let bad = |m: String| Err(RpcError::new(ErrorCode::InvalidParams, m));
        let given = bytes_of_params(policy);
        if given > PARAMS_BYTES {
            return bad(format!("policy.params: {given} bytes of names and values; at most {PARAMS_BYTES} are taken"));
        }
        if policy.shots == 0 {
            return bad("shots must be at least 1".into());
        }
        if policy.shots > max_shots {
            let message = format!(
                "{} shots are more than the {max_shots} this machine runs in one job of the tenant",
                policy.shots
            );
            return Err(RpcError::new(ErrorCode::QuotaExceeded, message));
        }
        noise_level(&policy.noise)?;
        // Parsing and checking take their time without holding up the machine.
        let program = self.build(&p, granted, &tenant)?;
        let (submitted, ticket) = self.shared.state.lock().submit(&p, program, false)?;
        // The text may be long, so it is recorded while others go on. The job does not end before that is done.
        if let Err(e) = self.shared.store.submitted(&ticket, &p) {
            self.shared.state.lock().withdraw(&p.session_id, ticket.job);
            return Err(e.into());
        }
        if self.settles {
            self.unsettled.store(true, Ordering::Relaxed);
        } else {
            self.shared.work.notify_all();
        }
        Ok(submitted)
    }

    /// The program of a submission. The last one is kept, for a client that runs one program with many seeds. It is
    /// kept per connection: a cache shared between tenants would tell by its time what others submit.
    fn build(&self, p: &JobSubmit, granted: Rights, tenant: &str) -> Result<Program, RpcError> {
        let same = |b: &Built| {
            let (old, new) = (&b.policy, &p.policy);
            b.source == p.source
                && b.format == p.format
                && b.granted == granted
                && old.params == new.params
                && old.profile == new.profile
        };
        if let Some(built) = self.built.lock().as_ref().filter(|b| same(b)) {
            return Ok(built.program.clone());
        }
        let policy = &p.policy;
        let program = self.build_in_turn((&p.source, p.format), policy, granted, tenant)?;
        if p.source.len() <= BUILT_BYTES && program.bytes() <= BUILT_BYTES {
            let (source, format, policy) = (p.source.clone(), p.format, policy.clone());
            *self.built.lock() = Some(Built { source, format, policy, granted, program: program.clone() });
        }
        Ok(program)
    }

    /// Builds a program for a session that holds `granted`, when there is room for that.
    pub(crate) fn build_in_turn(
        &self,
        (source, format): (&str, Format),
        policy: &Policy,
        granted: Rights,
        tenant: &str,
    ) -> Result<Program, RpcError> {
        let max_nodes = self.shared.state.lock().config.max_nodes;
        let options = ParseOptions { params: policy.params.clone(), max_nodes, ..ParseOptions::default() };
        let most = max_nodes.unwrap_or(usize::MAX);
        let over = |what: String| {
            let message = format!("the program has {what}, more than the {most} this machine takes in one job");
            RpcError::new(ErrorCode::QuotaExceeded, message)
        };
        let built = in_turn(&self.shared.build_queue, tenant, source.len(), &options, |options| {
            let program = Program::build_with(source, format, options, policy.profile.as_deref(), granted)?;
            if program.image.code.len() > most {
                return Err(over(format!("{} instructions", program.image.code.len())));
            }
            Ok(program)
        });
        let too_large = qmk_qvm::TooLarge(most);
        built.map_err(|e| match too_large.found_in(&e.findings) {
            true => over(format!("at least {} instructions", most.saturating_add(1))),
            false => e,
        })
    }
}
