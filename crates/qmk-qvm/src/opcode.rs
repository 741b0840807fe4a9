//! The opcode table: one line per operation, with its names and its kind. All that the crate knows of an operation,
//! such as its arity, arguments, capabilities and symbol, follows from its kind in one match per question.

use qmk_abi::Rights;
use qmk_abi::image::{Clifford1, Clifford2, Pauli};

/// Kind of an operation: operations of one kind have the same operands and are lowered alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Alloc,
    Free,
    Fence,
    BarRegion,
    SetPolicy,
    Pauli(Pauli),
    Clifford1(Clifford1),
    T,
    Tdg,
    Rotate(Pauli),
    Clifford2(Clifford2),
    Toffoli,
    Ccz,
    Reset,
    Measure(Pauli),
    MeasureAngle,
    MeasureBell,
    CondPauli,
    TeleportCnot,
    InjectT,
    OpenChan,
    UseChan,
    CloseChan,
}

macro_rules! opcodes {
    ($($name:ident = $text:literal $(| $alias:literal)* => $kind:expr,)*) => {
        /// An operation of a QVM graph.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Opcode { $($name,)* }
        impl Opcode {
            /// Every opcode.
            pub const ALL: &'static [Opcode] = &[$(Opcode::$name,)*];
            const NAMES: &'static [&'static str] = &[$($text, $($alias,)*)*];
            /// Name in the text forms.
            pub fn name(self) -> &'static str { match self { $(Opcode::$name => $text,)* } }
            /// The opcode of this name or alias.
            pub fn from_name(name: &str) -> Option<Opcode> {
                match name { $($text $(| $alias)* => Some(Opcode::$name),)* _ => None }
            }
            pub(crate) fn kind(self) -> Kind { match self { $(Opcode::$name => $kind,)* } }
        }
    };
}
opcodes! {
    AllocLq = "ALLOC_LQ" => Kind::Alloc,
    FreeLq = "FREE_LQ" => Kind::Free,
    FenceEpoch = "FENCE_EPOCH" => Kind::Fence,
    BarRegion = "BAR_REGION" => Kind::BarRegion,
    SetPolicy = "SET_POLICY" => Kind::SetPolicy,
    H = "APPLY_H" => Kind::Clifford1(Clifford1::H),
    S = "APPLY_S" => Kind::Clifford1(Clifford1::S),
    Sdg = "APPLY_SDG" => Kind::Clifford1(Clifford1::Sdg),
    X = "APPLY_X" => Kind::Pauli(Pauli::X),
    Y = "APPLY_Y" => Kind::Pauli(Pauli::Y),
    Z = "APPLY_Z" => Kind::Pauli(Pauli::Z),
    Sx = "APPLY_SX" => Kind::Clifford1(Clifford1::Sx),
    Sxdg = "APPLY_SXDG" => Kind::Clifford1(Clifford1::Sxdg),
    T = "APPLY_T" => Kind::T,
    Tdg = "APPLY_TDG" => Kind::Tdg,
    Rx = "APPLY_RX" => Kind::Rotate(Pauli::X),
    Ry = "APPLY_RY" => Kind::Rotate(Pauli::Y),
    Rz = "APPLY_RZ" => Kind::Rotate(Pauli::Z),
    P = "APPLY_P" => Kind::Rotate(Pauli::Z),
    Cnot = "APPLY_CNOT" => Kind::Clifford2(Clifford2::Cnot),
    Cz = "APPLY_CZ" => Kind::Clifford2(Clifford2::Cz),
    Swap = "APPLY_SWAP" => Kind::Clifford2(Clifford2::Swap),
    Toffoli = "APPLY_TOFFOLI" | "APPLY_CCX" | "CCX" => Kind::Toffoli,
    Ccz = "APPLY_CCZ" | "CCZ" => Kind::Ccz,
    Reset = "RESET" => Kind::Reset,
    MeasureZ = "MEASURE_Z" => Kind::Measure(Pauli::Z),
    MeasureX = "MEASURE_X" => Kind::Measure(Pauli::X),
    MeasureY = "MEASURE_Y" => Kind::Measure(Pauli::Y),
    MeasureAngle = "MEASURE_ANGLE" => Kind::MeasureAngle,
    MeasureBell = "MEASURE_BELL" => Kind::MeasureBell,
    CondPauli = "COND_PAULI" => Kind::CondPauli,
    TeleportCnot = "TELEPORT_CNOT" => Kind::TeleportCnot,
    InjectT = "INJECT_T_STATE" => Kind::InjectT,
    OpenChan = "OPEN_CHAN" => Kind::OpenChan,
    UseChan = "USE_CHAN" => Kind::UseChan,
    CloseChan = "CLOSE_CHAN" => Kind::CloseChan,
}

impl Opcode {
    /// `; did you mean APPLY_H?` for a name that is close to an opcode, else an empty text.
    pub fn hint(name: &str) -> String {
        let upper = name.to_ascii_uppercase();
        // No opcode is this long, and the distance takes time in the product of both lengths.
        if upper.is_empty() || upper.len() > 32 {
            return String::new();
        }
        let near = match upper.trim_start_matches("APPLY_") {
            "CX" => Some("APPLY_CNOT"),
            bare => {
                let full = [upper.clone(), format!("APPLY_{bare}")];
                let stem = format!("{upper}_");
                let exact = Self::NAMES.iter().find(|n| full.iter().any(|f| f == *n) || n.starts_with(&stem));
                let close = || {
                    let near = Self::NAMES.iter().map(|n| (distance(&upper, n), n)).min_by_key(|(d, _)| *d);
                    near.filter(|(d, n)| *d <= 2 && 3 * d <= n.len()).map(|(_, n)| n)
                };
                exact.or_else(close).copied()
            }
        };
        near.map_or(String::new(), |n| format!("; did you mean {n}?"))
    }

    /// Smallest and largest number of qubits that a node may name.
    pub(crate) fn qubits(self) -> (usize, usize) {
        match self.kind() {
            Kind::Fence | Kind::BarRegion | Kind::SetPolicy | Kind::UseChan | Kind::CloseChan => (0, 0),
            Kind::Alloc | Kind::Free | Kind::CondPauli => (1, usize::MAX),
            Kind::Clifford2(_) | Kind::MeasureBell | Kind::TeleportCnot | Kind::OpenChan => (2, 2),
            Kind::Toffoli | Kind::Ccz => (3, 3),
            _ => (1, 1),
        }
    }

    /// Smallest and largest number of events that a node may produce.
    pub(crate) fn produces(self) -> (usize, usize) {
        match self.kind() {
            Kind::Measure(_) | Kind::MeasureAngle => (1, 1),
            Kind::MeasureBell => (1, 2),
            _ => (0, 0),
        }
    }

    /// Number of channels that a node names.
    pub(crate) fn channels(self) -> usize {
        matches!(self.kind(), Kind::OpenChan | Kind::UseChan | Kind::CloseChan) as usize
    }

    /// Names of the operation's arguments; `None` if any name is allowed.
    pub(crate) fn args(self) -> Option<&'static [&'static str]> {
        Some(match self.kind() {
            Kind::Alloc => &["n", "profile", "space"],
            Kind::BarRegion => &["tag"],
            Kind::SetPolicy => return None,
            Kind::Rotate(_) => &["theta"],
            Kind::MeasureAngle => &["angle"],
            Kind::CondPauli => &["mask", "pauli"],
            Kind::OpenChan => &["fidelity", "type", "opts"],
            Kind::UseChan => &["semantic"],
            _ => &[],
        })
    }

    /// Whether the operation is unitary, and so can be undone.
    pub fn is_unitary(self) -> bool {
        matches!(
            self.kind(),
            Kind::Pauli(_)
                | Kind::Clifford1(_)
                | Kind::T
                | Kind::Tdg
                | Kind::Rotate(_)
                | Kind::Clifford2(_)
                | Kind::Toffoli
                | Kind::Ccz
                | Kind::CondPauli
                | Kind::TeleportCnot
        )
    }

    /// Capability classes that the operation needs: those of all instructions that it is lowered to, or more. `turns`
    /// is its angle in quarter turns, if that is a whole number.
    pub(crate) fn needs(self, turns: Option<u8>) -> Rights {
        let magic = if turns.is_some() { Rights::empty() } else { Rights::MAGIC };
        match self.kind() {
            Kind::Alloc => Rights::ALLOC,
            Kind::Free | Kind::Fence | Kind::BarRegion | Kind::SetPolicy | Kind::CloseChan => Rights::empty(),
            Kind::T | Kind::Tdg | Kind::Toffoli | Kind::Ccz => Rights::COMPUTE | Rights::MAGIC,
            Kind::Rotate(_) => Rights::COMPUTE | magic,
            Kind::Measure(_) | Kind::MeasureBell => Rights::MEASURE,
            // -Z and -X are measured as Z and X between two Pauli gates.
            Kind::MeasureAngle if matches!(turns, Some(2 | 3)) => Rights::MEASURE | Rights::COMPUTE,
            Kind::MeasureAngle => Rights::MEASURE | magic,
            Kind::TeleportCnot => Rights::TELEPORT,
            Kind::InjectT => Rights::MAGIC,
            Kind::OpenChan => Rights::LINK | Rights::COMPUTE,
            _ => Rights::COMPUTE,
        }
    }

    /// Symbol of the operation in a circuit diagram.
    pub fn symbol(self) -> &'static str {
        match self.kind() {
            Kind::Alloc => "|0>",
            Kind::Free => "free",
            Kind::Fence => "fence",
            Kind::BarRegion => "barrier",
            Kind::SetPolicy => "policy",
            Kind::Measure(_) | Kind::MeasureAngle => match self.name() {
                "MEASURE_X" => "Mx",
                "MEASURE_Y" => "My",
                "MEASURE_Z" => "M",
                _ => "Ma",
            },
            Kind::MeasureBell => "Mbell",
            Kind::CondPauli => "P",
            Kind::Reset => "reset",
            Kind::InjectT => "|T>",
            Kind::OpenChan => "link",
            Kind::UseChan => "use",
            Kind::CloseChan => "unlink",
            _ => match self.name().strip_prefix("APPLY_").unwrap_or(self.name()) {
                "SDG" => "S+",
                "TDG" => "T+",
                "SXDG" => "SX+",
                name => name,
            },
        }
    }
}

/// Levenshtein distance: the fewest bytes to insert, delete or replace to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + (x != y) as usize).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

/// An angle in quarter turns modulo 4, if it is within 1e-9 radians of a whole number of them.
pub(crate) fn quarter_turns(angle: f64) -> Option<u8> {
    let turns = angle / std::f64::consts::FRAC_PI_2;
    let whole = turns.round();
    // Beyond this, rounding errors of the angle approach the tolerance.
    let exact = whole.abs() <= (1u64 << 20) as f64;
    (exact && (turns - whole).abs() * std::f64::consts::FRAC_PI_2 < 1e-9).then(|| whole.rem_euclid(4.0) as u8)
}
