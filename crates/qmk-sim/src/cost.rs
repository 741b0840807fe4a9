//! What operations cost on the modelled machine: surface-code patches with lattice surgery (Litinski, arXiv:1808.02892).

use qmk_abi::image::{Clifford1, Clifford2, Op};
use qmk_hal::Cost;

/// T gates to approximate one arbitrary rotation: `0.53 log2(1/ε) + 5.3` with ε = 1e-10 (Kliuchnikov et al.,
/// arXiv:2203.10064, as used in the Azure estimator, arXiv:2211.07629).
const T_PER_ROTATION: u32 = 23;

/// Cost of one operation. Paulis and conditions are tracked in software and take no time.
pub(crate) fn cost(op: &Op) -> Cost {
    let c = |cycles, magic, routes| Cost { cycles, magic, routes };
    match op {
        Op::Alloc(_) | Op::Free(_) | Op::Fence | Op::Pauli(..) | Op::Reset(_) => c(0, 0, 0),
        // Z and X bases are transversal; Y costs an S first.
        Op::Measure(p, ..) => c(if *p == qmk_abi::image::Pauli::Y { 2 } else { 0 }, 0, 0),
        Op::Clifford1(Clifford1::H, _) => c(3, 0, 0),
        Op::Clifford1(..) => c(2, 0, 0),
        Op::Clifford2(Clifford2::Swap, ..) => c(3, 0, 1),
        Op::Clifford2(..) => c(2, 0, 1),
        Op::TeleportCnot(..) => c(2, 0, 1),
        Op::MeasureBell(..) => c(1, 0, 1),
        // One product measurement with the magic patch, one conditional Clifford.
        Op::T(_) | Op::Tdg(_) | Op::InjectT(_) => c(2, 1, 1),
        // Four T states each (Jones, Phys. Rev. A 87, 022328 (2013)).
        Op::Ccz(..) | Op::Toffoli(..) => c(4, 4, 2),
        Op::Rotate(..) => c(2 * T_PER_ROTATION, T_PER_ROTATION, 1),
        Op::MeasureAngle(..) => c(2 * T_PER_ROTATION, T_PER_ROTATION, 1),
    }
}
