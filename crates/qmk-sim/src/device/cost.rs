//! What operations and patches cost on the modelled machine: lattice surgery as on surface-code patches (Litinski,
//! arXiv:1808.02892).
//!
//! A cycle is as many rounds of syndrome extraction as the distance, so it is longer on larger patches, but operations
//! take the same number of them. The Azure estimator (arXiv:2211.07629) counts cycles of surface and Floquet codes
//! alike; for Bacon-Shor and SHYPS codes no better figure is modelled.

use qmk_abi::image::{Clifford1, Clifford2, Op};
use qmk_abi::syscall::{Code, Patch};
use qmk_hal::Cost;

/// T gates to approximate one arbitrary rotation: `0.53 log2(1/ε) + 5.3` with ε = 1e-10 (Kliuchnikov et al.,
/// arXiv:2203.10064, as used in the Azure estimator, arXiv:2211.07629).
const T_PER_ROTATION: u32 = 23;

/// Physical qubits of one logical qubit, ancillas included; `None` unless the distance is odd and between 3 and 101.
pub(crate) fn physical_qubits(patch: Patch) -> Option<u32> {
    let d = patch.distance as u32;
    if !(3..=101).contains(&d) || d.is_multiple_of(2) {
        return None;
    }
    Some(match patch.code {
        // d² data and d²-1 ancillas.
        Code::Surface => 2 * d * d - 1,
        // d² data and 2d(d-1) gauge ancillas.
        Code::BaconShor => d * d + 2 * d * (d - 1),
        // arXiv:2211.07629.
        Code::Floquet => 4 * d * d + 8 * (d - 1),
        // [(2^r-1)², r², 2^(r-1)] with 2^(r-1) >= d, one ancilla per data qubit, shared by r² logical qubits
        // (arXiv:2502.07150).
        Code::Shyps => {
            let r = (d.next_power_of_two().trailing_zeros() + 1).max(3);
            (2 * ((1 << r) - 1u32).pow(2)).div_ceil(r * r)
        }
    })
}

/// Cost of one operation. Paulis and conditions are tracked in software and take no time.
#[inline]
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
