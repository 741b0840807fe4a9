//! The broker of channels: offers between tenants, and the channels of each tenant.
//!
//! A tenant gets the capability to offer something to another for the time of the call only. It keeps the endpoint.

use crate::errors::{Refused, invalid, kernel_error, unexpected};
use crate::model::channel::ChannelEnd;
use crate::state::State;
use qmk_abi::rpc::interactive::*;
use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_abi::syscall::{ChannelInfo as KernelInfo, ChannelState as KernelState};
use qmk_abi::{KernelError, Rights, Syscall};
use qmk_kernel::hal::Device;

/// Characters of a channel's label.
const LABEL: usize = 64;

fn not_found() -> RpcError {
    RpcError::new(ErrorCode::ChannelNotFound, "no such channel; q_chan_list has those there are")
}

impl<D: Device> State<D> {
    /// Whether a tenant may offer channels to another.
    fn may_offer(&self, from: &str, to: &str) -> bool {
        self.config.policy.as_ref().is_none_or(|p| p.may_offer(from, to))
    }

    /// State of a channel in the kernel; `None` if the other side took it back.
    fn look(&mut self, tenant: &str, id: &str) -> Option<(ChannelEnd, KernelInfo)> {
        let owner = self.tenants.get(tenant)?;
        let (domain, end) = (owner.domain, owner.channels.get(id)?.clone());
        match self.kernel.syscall(domain, Syscall::ChannelStatus { endpoint: end.handle }) {
            Ok(qmk_abi::Reply::Channel(info)) => Some((end, info)),
            _ => {
                self.tenants.get_mut(tenant)?.channels.remove(id);
                None
            }
        }
    }

    fn describe(&mut self, session: &str, id: &str) -> Result<ChannelInfo, RpcError> {
        let tenant = self.session(session)?.tenant.clone();
        self.look(&tenant, id).map(|(end, info)| channel_info(id, end, &info)).ok_or_else(not_found)
    }

    pub(crate) fn open_channel(&mut self, p: &OpenChannel) -> Result<ChannelInfo, RpcError> {
        let (domain, machine) = self.may(&p.session_id, Rights::LINK)?;
        let qubit = self.qubit(&p.session_id, &p.qubit)?;
        let tenant = self.session(&p.session_id)?.tenant.clone();
        let kind = p.kind.clone().unwrap_or_else(|| "epr".into());
        if kind.chars().count() > LABEL {
            return invalid(format!("type: at most {LABEL} characters"));
        }
        if p.peer == tenant {
            return invalid("a channel joins two tenants; within one, APPLY_CNOT does");
        }
        self.kernel.reachable(p.fidelity).map_err(kernel_error)?;
        // A tenant that may not be reached and one that does not exist are the same.
        let Some(to) = self.tenants.get(&p.peer).filter(|_| self.may_offer(&tenant, &p.peer)) else {
            let shown: String = p.peer.chars().take(60).collect();
            return Err(RpcError::new(
                ErrorCode::AccessDenied,
                format!("no channel to tenant {shown:?} may be offered"),
            ));
        };
        let (source, into) = (to.control, Some(self.tenants[&tenant].control));
        self.sweep(&tenant);
        self.sweep(&p.peer);
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|e| RpcError::new(ErrorCode::Internal, format!("no entropy: {e}")))?;
        let id = format!("chan_{:032x}", u128::from_le_bytes(id));
        let to =
            self.handle(self.root, Syscall::Derive { source, rights: Rights::OFFER, badge: 0, into, budget: None })?;
        let offer = Syscall::Offer { machine, qubit, to, fidelity: p.fidelity };
        let offered = self.kernel.syscall(domain, offer);
        self.delete(domain, to)?;
        let (endpoint, invitation) = match offered {
            Ok(qmk_abi::Reply::Offered { endpoint, invitation }) => (endpoint, invitation),
            Ok(other) => return unexpected(other),
            Err(e) => {
                let quota = matches!(e, KernelError::Quota(_));
                let mut e = kernel_error(e);
                if quota {
                    e.message += "; both sides' count";
                }
                return Err(e);
            }
        };
        let sides = [
            (&tenant, &p.peer, endpoint, Some(p.session_id.clone()), false),
            (&p.peer, &tenant, invitation, None, true),
        ];
        for (owner, peer, handle, session, incoming) in sides {
            let (peer, kind, fidelity) = ((peer.clone(), id.clone()), kind.clone(), p.fidelity);
            if let Some(owner) = self.tenants.get_mut(owner) {
                owner.channels.insert(id.clone(), ChannelEnd { handle, session, peer, incoming, kind, fidelity });
            }
        }
        self.describe(&p.session_id, &id)
    }

    pub(crate) fn accept_channel(&mut self, p: &AcceptChannel) -> Result<ChannelInfo, Refused> {
        let (domain, machine) = self.may(&p.session_id, Rights::LINK)?;
        let tenant = self.session(&p.session_id)?.tenant.clone();
        let Some((end, _)) = self.look(&tenant, &p.channel_id) else { return Err(not_found().into()) };
        let qubit = self.qubit(&p.session_id, &p.qubit)?;
        self.kernel.syscall(domain, Syscall::Accept { machine, endpoint: end.handle, qubit })?;
        if let Some(end) = self.tenants.get_mut(&tenant).and_then(|t| t.channels.get_mut(&p.channel_id)) {
            end.session = Some(p.session_id.clone());
        }
        Ok(self.describe(&p.session_id, &p.channel_id)?)
    }

    pub(crate) fn use_channel(&mut self, p: &UseChannel) -> Result<ChannelUsed, Refused> {
        let (domain, machine) = self.may(&p.session_id, Rights::LINK | Rights::TELEPORT)?;
        let tenant = self.session(&p.session_id)?.tenant.clone();
        let end = self.accepted(&tenant, &p.channel_id)?;
        let call = match (p.semantic, &p.qubit, &p.other_channel_id) {
            (Semantic::Teleport, Some(qubit), None) => {
                let qubit = self.qubit(&p.session_id, qubit)?;
                Syscall::Teleport { machine, endpoint: end.handle, qubit }
            }
            (Semantic::Swap, None, Some(other)) => {
                let other = self.accepted(&tenant, other)?;
                let (a, b) = (&end.peer.0, &other.peer.0);
                if !self.may_offer(a, b) && !self.may_offer(b, a) {
                    let message = "the tenants on the far sides may not share a channel";
                    return Err(RpcError::new(ErrorCode::AccessDenied, message).into());
                }
                Syscall::SwapEntanglement { machine, endpoints: [end.handle, other.handle] }
            }
            (Semantic::Teleport, ..) => return invalid("teleport takes a qubit and no other channel"),
            (Semantic::Swap, ..) => return invalid("swap takes other_channel_id and no qubit"),
        };
        match self.kernel.syscall(domain, call)? {
            qmk_abi::Reply::Applied { outcomes, until } => {
                if let Some(other) = &p.other_channel_id {
                    self.joined(&tenant, &p.channel_id, other);
                }
                let outcomes = outcomes.into_iter().map(u8::from).collect();
                Ok(ChannelUsed { channel_id: p.channel_id.clone(), outcomes, until_epoch: until })
            }
            other => unexpected(other),
        }
    }

    /// A channel that need not wait for the other side.
    fn accepted(&mut self, tenant: &str, id: &str) -> Result<ChannelEnd, RpcError> {
        match self.look(tenant, id) {
            Some((_, KernelInfo { state: KernelState::Offered, .. })) => {
                invalid("the channel has not been accepted yet")
            }
            Some((end, _)) => Ok(end),
            None => Err(not_found()),
        }
    }

    /// Two channels of a tenant have become one between their far sides. The tenant's own endpoints are closed, but
    /// must not be deleted: far endpoints may derive from it.
    fn joined(&mut self, tenant: &str, first: &str, second: &str) {
        let Some(owner) = self.tenants.get_mut(tenant) else { return };
        let (Some(a), Some(b)) = (owner.channels.remove(first), owner.channels.remove(second)) else { return };
        for (one, other) in [(&a.peer, &b.peer), (&b.peer, &a.peer)] {
            if let Some(end) = self.tenants.get_mut(&one.0).and_then(|t| t.channels.get_mut(&one.1)) {
                end.peer = other.clone();
            }
        }
    }

    pub(crate) fn close_channel(&mut self, p: &ChannelRef) -> Result<ChannelClosed, RpcError> {
        self.may(&p.session_id, Rights::LINK)?;
        let tenant = self.session(&p.session_id)?.tenant.clone();
        self.look(&tenant, &p.channel_id).ok_or_else(not_found)?;
        self.leave(&tenant, &p.channel_id);
        Ok(ChannelClosed { channel_id: p.channel_id.clone(), closed: true })
    }

    pub(crate) fn channel_status(&mut self, p: &ChannelRef) -> Result<ChannelInfo, RpcError> {
        self.may(&p.session_id, Rights::LINK)?;
        self.describe(&p.session_id, &p.channel_id)
    }

    pub(crate) fn list_channels(&mut self, session: &str) -> Result<ChannelList, RpcError> {
        self.may(session, Rights::LINK)?;
        let tenant = self.session(session)?.tenant.clone();
        let ids: Vec<String> = self.tenants[&tenant].channels.keys().cloned().collect();
        let mut channels = Vec::new();
        for id in ids {
            let Some((end, info)) = self.look(&tenant, &id) else { continue };
            if info.state != KernelState::Closed {
                channels.push(channel_info(&id, end, &info));
            }
        }
        Ok(ChannelList { channels })
    }

    /// Closes one side of a channel, and forgets the other if it is gone with it.
    fn leave(&mut self, tenant: &str, id: &str) {
        let Some(owner) = self.tenants.get_mut(tenant) else { return };
        let (domain, Some(end)) = (owner.domain, owner.channels.remove(id)) else { return };
        // It may be closed, or gone with the other side.
        _ = self.kernel.syscall(domain, Syscall::CloseChannel { endpoint: end.handle });
        _ = self.delete(domain, end.handle);
        self.look(&end.peer.0, &end.peer.1);
    }

    /// A session ends, and the halves of pairs that it holds.
    pub(crate) fn leave_channels(&mut self, tenant: &str, session: &str) {
        let Some(owner) = self.tenants.get(tenant) else { return };
        let mine = owner.channels.iter().filter(|(_, end)| end.session.as_deref() == Some(session));
        for id in mine.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.leave(tenant, &id);
        }
    }

    /// Forgets closed channels of a tenant that has many.
    fn sweep(&mut self, tenant: &str) {
        let Some(owner) = self.tenants.get(tenant) else { return };
        let Ok(qmk_abi::Reply::Usage { quota, .. }) = self.kernel.syscall(owner.domain, Syscall::Usage) else { return };
        if owner.channels.len() < quota.channels as usize {
            return;
        }
        for id in owner.channels.keys().cloned().collect::<Vec<_>>() {
            if self.look(tenant, &id).is_some_and(|(_, info)| info.state == KernelState::Closed) {
                self.leave(tenant, &id);
            }
        }
    }
}

fn channel_info(id: &str, end: ChannelEnd, info: &KernelInfo) -> ChannelInfo {
    let state = match info.state {
        KernelState::Offered => ChannelState::Offered,
        KernelState::Linked => ChannelState::Linked,
        KernelState::Used => ChannelState::Used,
        KernelState::Closed => ChannelState::Closed,
    };
    ChannelInfo {
        channel_id: id.into(),
        state,
        peer: end.peer.0,
        incoming: end.incoming,
        kind: end.kind,
        requested_fidelity: end.fidelity,
        actual_fidelity: if state == ChannelState::Offered { 0.0 } else { info.fidelity },
        purification_rounds: info.rounds,
        pairs: info.pairs,
        ready_at_epoch: info.ready_at,
    }
}
