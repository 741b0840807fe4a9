//! Tenants: their domains and quotas.

use crate::model::rate::Rate;
use crate::model::tenant::Tenant;
use crate::policy::Quotas;
use crate::state::State;
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Patch, Quota};
use qmk_abi::{Rights, Syscall};
use qmk_kernel::hal::Device;
use std::collections::{BTreeMap, BTreeSet};

/// The smaller of the limits that there are.
fn tightest<T: Ord, const N: usize>(limits: [Option<T>; N]) -> Option<T> {
    limits.into_iter().flatten().min()
}

/// The smaller of a limit and one that there may be.
fn tighter<T: Ord + Copy>(limit: T, other: Option<T>) -> T {
    other.map_or(limit, |other| limit.min(other))
}

impl<D: Device> State<D> {
    /// Limits of a tenant in the kernel: those of the policy, within those of the machine.
    pub(crate) fn quota(&self, tenant: &str) -> Quota {
        let config = &self.config;
        let rules = self.rules(tenant);
        let (limits, weight) = rules.map_or((Quotas::default(), 1), |t| (t.quota.clone(), t.weight));
        let device = self.kernel.device();
        let machine = device.spec().logical_qubits;
        let qubits = config.max_logical_qubits.unwrap_or(machine).min(machine);
        let qubits = limits.max_logical_qubits.map_or(qubits, |most| most.min(qubits));
        let usual = device.physical_qubits(Patch::default()).map_or(u64::MAX, u64::from);
        Quota {
            qubits,
            physical_qubits: tightest([config.max_physical_qubits, limits.max_physical_qubits])
                .unwrap_or(usual.saturating_mul(qubits as u64)),
            strands: tighter(config.max_jobs, limits.max_jobs),
            instructions: 1 << 24,
            slots: 1 << 20,
            channels: tightest([config.max_channels, limits.max_channels]).unwrap_or(qubits / 2),
            checkpoints: config.max_checkpoints,
            active: tighter(config.max_active, limits.max_active_qubits),
            held_active: tighter(config.max_active.min(config.max_active_held), limits.max_active_qubits),
            magic: limits.magic_states_per_window.unwrap_or(u64::MAX),
            epochs: limits.epochs_per_window.unwrap_or(u64::MAX),
            window: limits.window_epochs.unwrap_or(0),
            weight,
        }
    }

    /// Shots of one job of a tenant.
    pub(crate) fn max_shots(&self, tenant: &str) -> u64 {
        tighter(self.config.max_shots, self.rules(tenant).and_then(|t| t.quota.max_shots))
    }

    /// Sessions of a tenant.
    pub(crate) fn max_sessions(&self, tenant: &str) -> usize {
        tighter(self.config.max_sessions, self.rules(tenant).and_then(|t| t.quota.max_sessions))
    }

    pub(crate) fn quota_info(&self, tenant: &str) -> QuotaInfo {
        let q = self.tenants.get(tenant).map_or_else(|| self.quota(tenant), |t| t.quota);
        QuotaInfo {
            max_logical_qubits: q.qubits as u64,
            max_physical_qubits: q.physical_qubits,
            max_channels: q.channels as u64,
            max_jobs: q.strands as u64,
        }
    }

    /// The tenant of this name, created on first use.
    pub(crate) fn tenant(&mut self, name: &str) -> Result<(), RpcError> {
        let quota = self.quota(name);
        match self.tenants.get(name).map(|t| t.quota != quota && t.sessions.is_empty()) {
            // The policy has changed since.
            Some(true) => self.forget_tenant(name)?,
            Some(false) => return Ok(()),
            None => {}
        }
        if name.len() > 256 {
            return Err(RpcError::new(ErrorCode::AuthFailed, "no such tenant"));
        }
        if self.tenants.len() >= self.config.max_tenants && !self.evict_tenant()? {
            return Err(RpcError::new(
                ErrorCode::ResourceExhausted,
                "the machine has too many tenants; try again later",
            ));
        }
        let (root, machine) = (self.root, self.machine);
        let control = self.handle(root, Syscall::CreateDomain { machine, quota })?;
        let rights = Rights::all() - Rights::ADMIN - Rights::GRANT;
        let derive = Syscall::Derive { source: machine, rights, badge: 0, into: Some(control), budget: None };
        let machine = self.handle(root, derive)?;
        let domain = self
            .kernel
            .domain_of(root, control)
            .ok_or_else(|| RpcError::new(ErrorCode::Internal, "the new domain is gone"))?;
        let tenant = Tenant {
            domain,
            control,
            machine,
            quota,
            rate: Rate::default(),
            sessions: BTreeSet::new(),
            used: self.uses,
            kept: BTreeMap::new(),
            kept_bytes: 0,
            channels: BTreeMap::new(),
            ended: JobCounts::default(),
        };
        self.tenants.insert(name.into(), tenant);
        tracing::debug!(tenant = name, "tenant added");
        Ok(())
    }

    /// Forgets the tenant that was used least recently, of those that have no more than idle sessions; false if there
    /// is none.
    pub(crate) fn evict_tenant(&mut self) -> Result<bool, RpcError> {
        let mut by_use: Vec<_> = self.tenants.iter().collect();
        by_use.sort_by_key(|(_, t)| t.used);
        let oldest = by_use.into_iter().find(|(_, t)| self.idle_sessions(t).len() == t.sessions.len());
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return Ok(false) };
        self.forget_tenant(&name)?;
        Ok(true)
    }

    fn forget_tenant(&mut self, name: &str) -> Result<(), RpcError> {
        let Some(tenant) = self.tenants.get(name) else { return Ok(()) };
        for id in tenant.sessions.clone() {
            let record = self.dormant_record(&id);
            if let Some(session) = self.sessions.remove(&id).filter(|s| s.number > 0) {
                self.store.closed(name, session.number);
            }
            if let Some(record) = record {
                self.keep_dormant(id, record);
            }
        }
        let Some(tenant) = self.tenants.remove(name) else { return Ok(()) };
        self.retire(&tenant);
        tracing::debug!(tenant = name, "tenant forgotten");
        // All that it held derives from what its domain held.
        self.delete(self.root, tenant.control)
    }

    pub(crate) fn resources(&mut self, session: &str) -> Result<Resources, RpcError> {
        let tenant = self.session(session)?.tenant.clone();
        let domain = self.tenants[&tenant].domain;
        let qmk_abi::Reply::Usage { used, .. } = self.call(domain, Syscall::Usage)? else {
            return Err(RpcError::new(ErrorCode::Internal, "unexpected reply"));
        };
        Ok(Resources {
            machine: MachineInfo {
                logical_qubits: self.kernel.device().spec().logical_qubits as u64,
                logical_qubits_free: self.kernel.free_qubits() as u64,
                epoch: self.kernel.epoch(),
                epoch_us: 7.0,
            },
            usage: Usage { logical_qubits: used.qubits as u64, jobs: used.strands as u64 },
            quota: self.quota_info(&tenant),
        })
    }
}
