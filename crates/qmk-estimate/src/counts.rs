//! Logical counts: of a program, or from JSON.

use crate::error::{EstimateError, Result};
use qmk_abi::Rights;
use qmk_abi::image::{Image, Instr, Op, Span};
use qmk_abi::rpc::LogicalCounts;
use qmk_qvm::{Finding, Format, ParseOptions};
use std::f64::consts::FRAC_PI_4;

/// Largest number of logical qubits, and largest other count.
const MAX_QUBITS: u64 = 1_000_000_000_000;
const MAX_COUNT: u64 = 1_000_000_000_000_000;

/// Checks that counts are small enough for all figures of an estimate to be finite.
///
/// # Errors
/// [`EstimateError`] of kind `Counts`: the count that is out of range, with the range.
pub fn check_counts(c: &LogicalCounts) -> Result<()> {
    let table = [
        ("numQubits", c.num_qubits, MAX_QUBITS),
        ("tCount", c.t_count, MAX_COUNT),
        ("rotationCount", c.rotation_count, MAX_COUNT),
        ("rotationDepth", c.rotation_depth, MAX_COUNT),
        ("cczCount", c.ccz_count, MAX_COUNT),
        ("ccixCount", c.ccix_count, MAX_COUNT),
        ("measurementCount", c.measurement_count, MAX_COUNT),
    ];
    match table.iter().find(|(_, value, most)| value > most) {
        Some((key, value, most)) => {
            Err(EstimateError::counts(format!("{key} is {value}; it must be from 0 to {most}")))
        }
        None if c.num_qubits == 0 => Err(EstimateError::counts("numQubits is 0; there must be at least one qubit")),
        None if c.rotation_depth > c.rotation_count => {
            let (depth, count) = (c.rotation_depth, c.rotation_count);
            Err(EstimateError::counts(format!("rotationDepth is {depth}; it must be at most rotationCount, {count}")))
        }
        None => Ok(()),
    }
}

/// Reads counts from JSON; `None` if the text is not a JSON object with the name of a count, and so may be a program.
///
/// The inner result is an [`EstimateError`] of kind `Counts` if a count is missing, unknown or no number.
pub fn parse_counts(text: &str) -> Option<Result<LogicalCounts>> {
    // No count has a long name or many others beside it.
    if text.len() > 64 << 10 {
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let keys: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let counts = !keys.contains_key("program") && keys.keys().any(|k| k == "numQubits" || k.ends_with("Count"));
    counts.then(|| serde_json::from_str(text).map_err(|e| EstimateError::counts(e.to_string())))
}

/// Counts of a program's text.
///
/// # Errors
/// The findings of the verifier.
pub fn program_counts(
    source: &str,
    format: Format,
    options: &ParseOptions,
) -> std::result::Result<LogicalCounts, Vec<Finding>> {
    let graph = qmk_qvm::parse(source, format, options)?;
    Ok(image_counts(&qmk_qvm::lower(&graph)?.image))
}

/// Counts of a program image.
///
/// An angle that is an odd multiple of a quarter of π makes a rotation a T gate up to Clifford gates; other rotations
/// that are left after lowering are arbitrary ones. A measurement at an angle is a rotation and a measurement, a Bell
/// measurement is two. Conditional operations count as executed. Layers are those of Pauli-based computation: an
/// operation outside the Clifford group comes one layer after the last one on its qubits, and Clifford gates between
/// two qubits make them wait for each other.
pub fn image_counts(image: &Image) -> LogicalCounts {
    let mut c = LogicalCounts::default();
    let mut live = 0u64;
    let mut rotating: Vec<bool> = Vec::new();
    // Layers are the cycles of a schedule in which only operations outside the Clifford group take time, and patches
    // abound.
    let layers = |op: &Op| u32::from(op.class().contains(Rights::MAGIC));
    image.schedule(u32::MAX, layers, |_, Instr { op, .. }, Span { start, .. }, _| {
        match *op {
            Op::Alloc(_) => live += 1,
            Op::Free(_) => live = live.saturating_sub(1),
            Op::T(_) | Op::Tdg(_) | Op::InjectT(_) => c.t_count += 1,
            Op::Rotate(_, _, angle) | Op::MeasureAngle(angle, _, _) => {
                if is_t_angle(angle) {
                    c.t_count += 1;
                } else {
                    c.rotation_count += 1;
                    rotating.resize(rotating.len().max(start as usize + 1), false);
                    rotating[start as usize] = true;
                }
            }
            Op::Ccz(..) | Op::Toffoli(..) => c.ccz_count += 1,
            _ => {}
        }
        c.measurement_count += op.writes().count() as u64;
        c.num_qubits = c.num_qubits.max(live);
    });
    c.rotation_depth = rotating.iter().filter(|r| **r).count() as u64;
    c
}

/// Whether an angle in radians is an odd multiple of π/4, as closely as angles of Clifford gates are recognized.
fn is_t_angle(angle: f64) -> bool {
    let turns = angle / FRAC_PI_4;
    let whole = turns.round();
    whole.abs() <= (1u64 << 21) as f64 && whole % 2.0 != 0.0 && (turns - whole).abs() * FRAC_PI_4 < 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(source: &str) -> LogicalCounts {
        program_counts(source, Format::Asm, &ParseOptions::default()).unwrap()
    }

    #[test]
    fn angles_count_as_what_they_are() {
        let pi = std::f64::consts::PI;
        let rotate = |angle: f64| {
            let c = counts(&format!("ALLOC_LQ -> a\nAPPLY_RX a, theta={angle:?}\nFREE_LQ a"));
            (c.t_count, c.rotation_count, c.rotation_depth)
        };
        for k in -9..=9 {
            let expected = (u64::from(k % 2 != 0), 0, 0);
            assert_eq!(rotate(k as f64 * pi / 4.0), expected, "{k}");
        }
        assert_eq!(rotate(pi / 8.0), (0, 1, 1));
        assert_eq!(rotate(pi / 4.0 + 1e-6), (0, 1, 1));
    }

    #[test]
    fn everything_is_counted() {
        let c = counts(
            "ALLOC_LQ -> a, b, c\nAPPLY_T a\nAPPLY_TDG b\nAPPLY_TOFFOLI a, b, c\nAPPLY_CCZ a, b, c\nAPPLY_H a\n\
             MEASURE_Z a -> x\nMEASURE_BELL b, c -> y, z\nFREE_LQ a, b, c\nALLOC_LQ -> d\nINJECT_T_STATE d\n\
             MEASURE_ANGLE d, angle=0.3 -> w\nFREE_LQ d",
        );
        let expected = LogicalCounts {
            num_qubits: 3,
            t_count: 3,
            rotation_count: 1,
            rotation_depth: 1,
            ccz_count: 2,
            ccix_count: 0,
            measurement_count: 4,
        };
        assert_eq!(c, expected);
    }

    #[test]
    fn layers_wait_for_qubits_events_and_fences() {
        let depth = |body: &str| counts(&format!("ALLOC_LQ -> a, b\n{body}FREE_LQ a, b")).rotation_depth;
        assert_eq!(depth("APPLY_RZ a, theta=0.1\nAPPLY_RZ b, theta=0.1\n"), 1);
        assert_eq!(depth("APPLY_RZ a, theta=0.1\nAPPLY_RZ a, theta=0.1\n"), 2);
        assert_eq!(depth("APPLY_RZ a, theta=0.1\nAPPLY_CNOT a, b\nAPPLY_RZ b, theta=0.1\n"), 2);
        assert_eq!(depth("APPLY_RZ a, theta=0.1\nFENCE_EPOCH\nAPPLY_RZ b, theta=0.1\n"), 2);
        assert_eq!(depth("APPLY_RZ a, theta=0.1\nMEASURE_Z a -> x\nAPPLY_RZ b, theta=0.1 if x == 1\n"), 2);
        // A layer without rotations is none.
        assert_eq!(depth("APPLY_RZ a, theta=0.1\nAPPLY_T b\nAPPLY_T b\nAPPLY_RZ b, theta=0.1\n"), 2);
        assert_eq!(depth("APPLY_T a\nAPPLY_T a\n"), 0);
    }

    #[test]
    fn counts_are_told_from_programs() {
        assert!(parse_counts("{\"program\": {\"nodes\": []}}").is_none());
        assert!(parse_counts("ALLOC_LQ -> a").is_none());
        assert_eq!(parse_counts("{\"numQubits\": 3}").unwrap().unwrap().num_qubits, 3);
        let e = parse_counts("{\"numQubits\": 3, \"tcount\": 1}").unwrap().unwrap_err();
        assert!(e.message.contains("unknown field `tcount`"), "{e}");
        let e = parse_counts("{\"tCount\": 3}").unwrap().unwrap_err();
        assert!(e.message.contains("missing field `numQubits`"), "{e}");
    }
}
