//! The syntax of Stim's text: lines with a name, arguments and targets, and blocks of lines that repeat.
//!
//! This file knows no instruction. [`blocks`] parses a text, [`unroll`] visits its lines with all loops written out.

use thiserror::Error;

/// Most lines and targets of a text with its loops written out.
pub(super) const MAX_STEPS: usize = 1 << 22;
/// Blocks inside blocks.
const MAX_DEPTH: usize = 16;

/// A text that is not made of lines and blocks.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SyntaxError {
    /// A line that cannot be parsed.
    #[error("line {line}: {reason}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: LineError,
    },
    /// The end of the text inside a block.
    #[error("a block is not closed")]
    OpenBlock,
    /// Loops that take too long even if there is nothing in them.
    #[error("loops run more than {MAX_STEPS} times")]
    Loops,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LineError {
    /// `[` without `]`.
    #[error("a tag is not closed")]
    Tag,
    /// `(` without `)`.
    #[error("a parenthesis is not closed")]
    Parenthesis,
    /// An argument that is no number.
    #[error("{0:?} is not a number")]
    Number(String),
    /// A closing brace too many.
    #[error("}} closes no block")]
    StrayBrace,
    /// A loop without count or opening brace.
    #[error("expected REPEAT count {{")]
    Repeat,
    /// A count of a loop that is no number.
    #[error("{0:?} is not a count")]
    Count(String),
    /// Too many blocks inside blocks.
    #[error("blocks nest deeper than {MAX_DEPTH}")]
    Depth,
    /// Too many targets.
    #[error("with its loops written out the text has more than {MAX_STEPS} targets")]
    Targets,
}

/// Numbers as arguments, separated by commas.
pub(super) fn list(values: &[f64]) -> String {
    values.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

/// A line that is not empty.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: Vec<f64>,
    pub(super) targets: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// Parses a line; `None` if there is nothing on it but a comment.
    fn parse(text: &'a str) -> Result<Option<Self>, LineError> {
        let text = text.split('#').next().unwrap_or("").trim();
        if text.is_empty() {
            return Ok(None);
        }
        let end = text.find(|c: char| c.is_whitespace() || matches!(c, '(' | '[')).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        if let Some(tagged) = rest.strip_prefix('[') {
            rest = tagged.split_once(']').ok_or(LineError::Tag)?.1;
        }
        let mut arguments = Vec::new();
        if let Some(inside) = rest.trim_start().strip_prefix('(') {
            let (inside, after) = inside.split_once(')').ok_or(LineError::Parenthesis)?;
            for a in inside.split(',').map(str::trim).filter(|a| !a.is_empty()) {
                let value: f64 = a.parse().map_err(|_| LineError::Number(a.into()))?;
                arguments.push(value);
            }
            rest = after;
        }
        Ok(Some(Line { name, arguments, targets: rest.split_whitespace().collect() }))
    }
}

/// A line with its number, or a block of lines with the number of its repetitions.
pub(super) enum Item<'a> {
    Line(usize, Line<'a>),
    Repeat(u64, Vec<Item<'a>>),
}

/// Parses lines and blocks. A stack of open blocks keeps deep nesting off the call stack.
///
/// # Errors
/// The line that cannot be parsed, or a block without end.
pub(super) fn blocks(text: &str) -> Result<Vec<Item<'_>>, SyntaxError> {
    let mut stack: Vec<(u64, Vec<Item<'_>>)> = vec![(1, Vec::new())];
    for (number, text) in (1..).zip(text.lines()) {
        let at = |reason| SyntaxError::Line { line: number, reason };
        let Some(mut line) = Line::parse(text).map_err(at)? else { continue };
        if line.name == "}" {
            let closed = stack.pop().filter(|_| !stack.is_empty());
            let (times, body) = closed.ok_or_else(|| at(LineError::StrayBrace))?;
            if let Some((_, outer)) = stack.last_mut() {
                outer.push(Item::Repeat(times, body));
            }
        } else if line.name.eq_ignore_ascii_case("repeat") {
            if line.targets.pop() != Some("{") || line.targets.len() != 1 {
                return Err(at(LineError::Repeat));
            }
            let count = line.targets[0];
            let times = count.parse().map_err(|_| at(LineError::Count(count.into())))?;
            if stack.len() > MAX_DEPTH {
                return Err(at(LineError::Depth));
            }
            stack.push((times, Vec::new()));
        } else if let Some((_, block)) = stack.last_mut() {
            block.push(Item::Line(number, line));
        }
    }
    match stack.pop() {
        Some((_, items)) if stack.is_empty() => Ok(items),
        _ => Err(SyntaxError::OpenBlock),
    }
}

/// Calls `each` with the number and the content of every line, loops written out. `left` counts down from
/// [`MAX_STEPS`].
///
/// # Errors
/// That of `each`, or a text that is too long with its loops written out.
pub(super) fn unroll<'a, E: From<SyntaxError>>(
    items: &[Item<'a>],
    left: &mut usize,
    each: &mut impl FnMut(usize, &Line<'a>) -> Result<(), E>,
) -> Result<(), E> {
    for item in items {
        match item {
            Item::Line(number, line) => {
                let cost = 1 + line.targets.len();
                let too_long = SyntaxError::Line { line: *number, reason: LineError::Targets };
                *left = left.checked_sub(cost).ok_or(too_long)?;
                each(*number, line)?;
            }
            Item::Repeat(times, body) => {
                for _ in 0..*times {
                    // An empty loop takes time, too.
                    *left = left.checked_sub(1).ok_or(SyntaxError::Loops)?;
                    unroll(body, left, each)?;
                }
            }
        }
    }
    Ok(())
}
