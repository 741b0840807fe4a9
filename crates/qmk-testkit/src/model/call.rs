//! Calls on the kernel and on the model: the same verdict, the same effect, and no effect of a refusal.

use super::object::Object;
use super::state::Model;
use super::verdict::Verdict;
use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::Patch;
use qmk_kernel::abi::{Handle, KernelError, Reply, Syscall};
use qmk_kernel::hal::Device;

/// Kinds of call that are counted.
pub fn labels(call: &Syscall) -> Vec<&'static str> {
    use Syscall::*;
    let with = |name, more: &[(bool, &'static str)]| {
        std::iter::once(name).chain(more.iter().filter(|m| m.0).map(|m| m.1)).collect()
    };
    match call {
        CreateDomain { .. } => vec!["CreateDomain"],
        CreateContext { .. } => vec!["CreateContext"],
        CreateRegion { .. } => vec!["CreateRegion"],
        Derive { budget, into, .. } => {
            with("Derive", &[(budget.is_some(), "Derive with budget"), (into.is_some(), "Derive into another")])
        }
        Revoke { .. } => vec!["Revoke"],
        Delete { .. } => vec!["Delete"],
        Inspect { .. } => vec!["Inspect"],
        Admit { .. } => vec!["Admit"],
        Spawn { run, .. } => with(
            "Spawn",
            &[
                (run.deadline.is_some(), "Spawn with deadline"),
                (run.context.is_some(), "Spawn in context"),
                (run.region.is_some(), "Spawn in region"),
                (run.priority != 0, "Spawn with priority"),
                (run.patch != Patch::default(), "Spawn on patches"),
            ],
        ),
        Status { .. } => vec!["Status"],
        Outcomes { .. } => vec!["Outcomes"],
        Pause { paused, .. } => vec![if *paused { "Pause" } else { "Pause not" }],
        Migrate { region, .. } => vec![if region.is_some() { "Migrate to region" } else { "Migrate to shared" }],
        Rollback { strand, .. } => vec![if strand.is_some() { "Rollback of strand" } else { "Rollback of qubits" }],
        Checkpoint { strand, .. } => {
            vec![if strand.is_some() { "Checkpoint of strand" } else { "Checkpoint of qubits" }]
        }
        CheckpointStatus { .. } => vec!["CheckpointStatus"],
        Restore { .. } => vec!["Restore"],
        TakeQubit { .. } => vec!["TakeQubit"],
        FreeQubit { uncompute, .. } => with("FreeQubit", &[(uncompute.is_some(), "FreeQubit with uncomputation")]),
        Apply { .. } => vec!["Apply"],
        Offer { .. } => vec!["Offer"],
        Accept { .. } => vec!["Accept"],
        Teleport { .. } => vec!["Teleport"],
        SwapEntanglement { .. } => vec!["SwapEntanglement"],
        CloseChannel { .. } => vec!["CloseChannel"],
        ChannelStatus { .. } => vec!["ChannelStatus"],
        Usage => vec!["Usage"],
    }
}

impl<D: Device> Model<D> {
    /// Whether the model lets this call through: never, perhaps, or for certain.
    pub fn allows(&mut self, d: DomainId, call: &Syscall) -> Verdict {
        self.expect(d, call).map_or(Verdict::Never, |(verdict, _)| verdict)
    }

    /// What is there to be seen: of every domain, strand and channel.
    fn observe(&mut self) -> impl PartialEq + use<D> {
        let mut seen = Vec::new();
        for d in self.quotas.keys().copied().collect::<Vec<_>>() {
            seen.push((self.kernel.syscall(d, Syscall::Usage), self.kernel.capabilities(d)));
        }
        for o in self.live.clone() {
            let (domain, handle) = match self.object(o) {
                Object::Strand(_) | Object::Endpoint { .. } | Object::Checkpoint(_) => self.reader(o),
                _ => continue,
            };
            let call = match self.object(o) {
                Object::Strand(_) => Syscall::Status { strand: handle },
                Object::Endpoint { .. } => Syscall::ChannelStatus { endpoint: handle },
                _ => Syscall::CheckpointStatus { checkpoint: handle },
            };
            seen.push((self.kernel.syscall(domain, call), Vec::new()));
        }
        (seen, self.kernel.free_qubits(), self.kernel.epoch())
    }

    /// Performs a call on both; the kernel must agree with the model about whether it is allowed, and on its effect.
    /// Returns the new handle, if there is one.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn call(&mut self, d: DomainId, call: Syscall) -> Option<Handle> {
        match self.reply(d, call) {
            Ok(Reply::Handle(h)) => Some(h),
            Ok(Reply::Offered { endpoint, .. }) => Some(endpoint),
            _ => None,
        }
    }

    /// The same; returns the reply. Deleting goes on to its end.
    ///
    /// # Errors
    /// The kernel's refusal, which the model agrees with.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn reply(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        self.transitions += 1;
        let expected = self.expect(d, &call);
        let certain = matches!(expected, Some((Verdict::Always, _)));
        let before = (!certain).then(|| self.observe());
        let mut reply = self.kernel.syscall(d, call.clone());
        let mut deleted = 0;
        while let Ok(Reply::Deleted { count, more }) = reply {
            assert!(count <= 1024, "a step of {count}");
            deleted += count;
            if !more {
                reply = Ok(Reply::Deleted { count: deleted, more });
                break;
            }
            reply = self.kernel.syscall(d, call.clone());
        }
        for label in labels(&call) {
            let count = self.counts.entry(label).or_default();
            *if reply.is_ok() { &mut count.successes } else { &mut count.refusals } += 1;
        }
        match (expected, &reply) {
            (None | Some((Verdict::Maybe, _)), Err(_)) => {
                assert!(before == Some(self.observe()), "{d:?} {call:?} was refused and changed something: {reply:?}");
            }
            (Some((_, effect)), Ok(reply)) => self.apply(d, effect, reply, &call),
            (expected, _) => {
                panic!("{d:?} {call:?}\n  the model expects {expected:?}\n  the kernel replied {reply:?}")
            }
        }
        reply
    }
}
