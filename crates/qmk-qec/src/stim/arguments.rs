//! Arguments that are probabilities.

use super::error::InstructionError;
use super::lex::Line;

/// The arguments of an instruction that takes `N` probabilities of exclusive events.
///
/// # Errors
/// Another number of arguments, or arguments that are no distribution.
pub(super) fn probabilities<const N: usize>(line: &Line<'_>) -> Result<[f64; N], InstructionError> {
    let p: [f64; N] = line
        .arguments
        .as_slice()
        .try_into()
        .map_err(|_| InstructionError::ProbabilityCount { name: line.name.into(), wanted: N })?;
    if p.iter().any(|p| !(0.0..=1.0).contains(p)) || p.iter().sum::<f64>() > 1.0 + 1e-9 {
        return Err(InstructionError::Probabilities(line.name.into()));
    }
    Ok(p)
}
