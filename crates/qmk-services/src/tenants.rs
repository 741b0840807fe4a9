//! Tenants: their domains and quotas.

use crate::machine::State;
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Patch, Quota};
use qmk_abi::{Handle, Rights, Syscall};
use qmk_kernel::DomainId;
use qmk_kernel::hal::Device;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Tenant {
    pub(crate) domain: DomainId,
    /// The capability to the domain, in the root's space.
    pub(crate) control: Handle,
    /// The tenant's machine capability, in its own space.
    pub(crate) machine: Handle,
    pub(crate) sessions: BTreeSet<String>,
    /// When a session of it was last used.
    pub(crate) used: u64,
    /// Finished jobs, with their session and the bytes of their results.
    pub(crate) kept: BTreeMap<u64, (String, usize)>,
    pub(crate) kept_bytes: usize,
    /// Jobs that have ended.
    pub(crate) ended: JobCounts,
}

impl<D: Device> State<D> {
    pub(crate) fn quota(&self) -> Quota {
        let device = self.kernel.device();
        let machine = device.spec().logical_qubits;
        let qubits = self.config.max_logical_qubits.unwrap_or(machine).min(machine);
        let usual = device.physical_qubits(Patch::default()).map_or(u64::MAX, u64::from);
        Quota {
            qubits,
            physical_qubits: self.config.max_physical_qubits.unwrap_or(usual.saturating_mul(qubits as u64)),
            strands: self.config.max_jobs,
            instructions: 1 << 24,
            slots: 1 << 20,
            channels: self.config.max_channels.unwrap_or(qubits / 2),
            checkpoints: self.config.max_checkpoints,
            active: self.config.max_active,
            ..Quota::UNLIMITED
        }
    }

    pub(crate) fn quota_info(&self) -> QuotaInfo {
        let q = self.quota();
        QuotaInfo {
            max_logical_qubits: q.qubits as u64,
            max_physical_qubits: q.physical_qubits,
            max_channels: q.channels as u64,
            max_jobs: q.strands as u64,
        }
    }

    /// The tenant of this name, created on first use.
    pub(crate) fn tenant(&mut self, name: &str) -> Result<(), RpcError> {
        if self.tenants.contains_key(name) {
            return Ok(());
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
        let (root, machine, quota) = (self.root, self.machine, self.quota());
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
            sessions: BTreeSet::new(),
            used: self.uses,
            kept: BTreeMap::new(),
            kept_bytes: 0,
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
        let Some(tenant) = self.tenants.remove(&name) else { return Ok(false) };
        self.sessions.retain(|id, _| !tenant.sessions.contains(id));
        self.retire(&tenant);
        tracing::debug!(tenant = name, "tenant forgotten");
        // All that it held derives from what its domain held.
        self.delete(self.root, tenant.control)?;
        Ok(true)
    }

    pub(crate) fn resources(&mut self, session: &str) -> Result<Resources, RpcError> {
        let domain = self.tenants[&self.session(session)?.tenant].domain;
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
            quota: self.quota_info(),
        })
    }
}
