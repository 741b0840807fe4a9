//! Reasons of refusals. Each has a text of its own, which users read; the recorded runs and the wire carry the reason.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Reasons and their texts.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $reason:ident: $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$note])* #[doc = $text] $reason,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$reason),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$reason => $text,)* })
            }
        }
    )*};
}

reasons! {
    /// An argument that no state of the kernel would make valid.
    BadArgument {
        FarQubit: "the qubit lies in another domain's space",
        OneDomain: "a channel joins two domains",
        TooManyPairs: "the fidelity takes more raw pairs than one channel may have",
        OneChannel: "the endpoints are those of one channel",
        SameFarDomain: "both channels lead to the same domain",
        Fidelity: "the fidelity must be above 1/4 and at most 1",
        EmptyRegion: "a region needs at least one qubit",
        RegionShare: "the shared region has fewer routes or magic states than that",
        BudgetDepth: "budgets are nested too deep",
        NoShots: "shots must be at least 1",
        Patch: "the machine has no patches of this code and distance",
        ShotRange: "the strand has fewer shots than that",
        DomainIds: "domain ids are used up",
        OwnCall: "this operation has a system call of its own",
        Angle: "angle is not finite",
        RegisterRange: "register beyond the qubits given",
        TwoSpaces: "qubits of different spaces cannot meet in one operation",
        SameQubit: "qubit named twice",
        NoQubit: "the operation names no qubit",
    }
    /// A state of an object that does not allow the call, and that time alone does not mend.
    WrongState {
        FarEndpoint: "the endpoint belongs to another domain's qubit",
        PairUsed: "the pair has been used",
        ChannelClosed: "the channel is closed",
        QubitLinked: "the qubit is half of another channel",
        NotInvited: "only the domain that the channel was offered to can accept it",
        NotOffered: "the channel is not on offer",
        NoCopies: "the machine cannot copy quantum states",
        NoQubits: "the domain holds no qubits",
        EndedBeforeFence: "the strand ended before it came to a fence",
        StrandGone: "the strand is gone",
        StrandEnded: "the strand has ended; spawn it again",
        QubitsChanged: "qubits were taken, freed or linked since",
        Faulted: "the strand has faulted",
        AllIssued: "all instructions of the strand have been issued",
        Scheduled: "a strand with a deadline keeps to its schedule",
        RegionTooSmall: "the region never has what the strand's instructions need at once",
        QubitFreed: "the qubit was freed",
    }
    /// Something that is missing now and may be there when the call is repeated.
    NotYet {
        PairPending: "the pair is not ready",
        NotAccepted: "the channel has not been accepted",
        PairsOrdered: "pairs that were ordered before are still being made",
        RoutesInUse: "operations under way use the routes",
        RegionPromises: "the shared region has deadlines to keep",
        ShareNeeded: "a strand of the shared region needs what would be taken from it",
        NoFence: "the strand has not come to a fence",
        ShotPending: "the shot is not finished",
        DecoderPromises: "the decoders have deadlines to keep",
        QubitsAwaited: "a strand has waited too long for qubits",
        QubitPairPending: "the pair of the qubit's channel is not ready",
        NoMagic: "there are not enough magic states in stock",
    }
    /// Why a deadline cannot be kept.
    Late {
        LongestPath: "the longest path of all shots takes longer",
        DomainLimits: "the domain's magic states or epochs are limited",
        Context: "a deadline is kept outside of contexts",
        DomainQubits: "the domain's qubits are in use",
        RegionQubits: "the region's qubits are in use",
        QubitsAwaited: "a strand has waited too long for the region's qubits",
        Decoders: "the decoders are behind, or would be",
        Promised: "the region has promised too much of late; what is always there is a region",
        Horizon: "one shot takes longer than promises can be made",
        Supply: "a shot takes longer with the magic states and routes there are",
    }
}
