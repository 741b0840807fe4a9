//! Checks of values and their units, which every part of the parameters uses.

use crate::error::{EstimateError, Result};
use std::fmt;

/// Names that formulas of a logical cycle time may use.
pub(super) const CYCLE_TIME_NAMES: [&str; 5] =
    ["codeDistance", "oneQubitMeasurementTime", "oneQubitGateTime", "twoQubitGateTime", "twoQubitJointMeasurementTime"];

pub(super) fn out_of_range(key: &str, value: impl fmt::Display, range: &str) -> EstimateError {
    EstimateError::params(format!("{key} is {value}; it must be {range}"))
}

/// Checks an error rate.
///
/// # Errors
/// An error rate that is not above 0 and below 1.
pub(super) fn rate(key: &str, value: f64) -> Result<f64> {
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(out_of_range(key, value, "above 0 and below 1")) }
}

/// Nanoseconds of a time such as `50 ns` or `1.5 us`, at most `most`.
///
/// # Errors
/// A text without number or unit, or a time out of range.
pub(super) fn nanoseconds(key: &str, text: &str, most: f64) -> Result<u64> {
    let trimmed = text.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(char::is_alphabetic).unwrap_or(trimmed.len()));
    let scale = match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => {
            let shown: String = text.chars().take(40).collect();
            let message = format!("{key} is {shown:?}; write a number and its unit, s, ms, us or ns, as in \"50 ns\"");
            return Err(EstimateError::params(message));
        }
    };
    let ns = number.trim().parse::<f64>().map_or(f64::NAN, |x| (x * scale).round());
    if ns >= 1.0 && ns <= most {
        return Ok(ns as u64);
    }
    let shown: String = text.chars().take(40).collect();
    Err(out_of_range(key, format_args!("{shown:?}"), &format!("from 1 ns to {:e} s", most / 1e9)))
}

/// The beginning of a text of the user, for messages and reports.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}
