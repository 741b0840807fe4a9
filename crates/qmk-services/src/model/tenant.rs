//! A tenant, and what it has on the machine.

use super::channel::ChannelEnd;
use super::rate::Rate;
use qmk_abi::Handle;
use qmk_abi::rpc::JobCounts;
use qmk_abi::syscall::Quota;
use qmk_kernel::DomainId;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Tenant {
    pub(crate) domain: DomainId,
    /// The capability to the domain, in the root's space.
    pub(crate) control: Handle,
    /// The tenant's machine capability, in its own space.
    pub(crate) machine: Handle,
    /// Its limits in the kernel.
    pub(crate) quota: Quota,
    pub(crate) rate: Rate,
    pub(crate) sessions: BTreeSet<String>,
    /// Value of the use counter at the last use of one of its sessions.
    pub(crate) used: u64,
    /// Finished jobs, with their session and the bytes of their results.
    pub(crate) kept: BTreeMap<u64, (String, usize)>,
    pub(crate) kept_bytes: usize,
    /// Its ends of channels.
    pub(crate) channels: BTreeMap<String, ChannelEnd>,
    /// Counts of ended jobs.
    pub(crate) ended: JobCounts,
}
