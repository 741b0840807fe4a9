//! The syntax of Stim's text: lines, and blocks that repeat.

/// Most instructions and targets of an imported circuit with its loops written out.
pub(super) const MAX_STEPS: usize = 1 << 22;

pub(super) fn list(values: &[f64]) -> String {
    values.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

/// A line taken apart: name, arguments, targets.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: Vec<f64>,
    pub(super) targets: Vec<&'a str>,
}

/// Takes a line apart; `None` if there is nothing in it.
fn line(text: &str) -> Result<Option<Line<'_>>, String> {
    let text = text.split('#').next().unwrap_or("").trim();
    if text.is_empty() {
        return Ok(None);
    }
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '(' | '[')).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if let Some(tagged) = rest.strip_prefix('[') {
        rest = tagged.split_once(']').ok_or("a tag is not closed")?.1;
    }
    let mut arguments = Vec::new();
    if let Some(inside) = rest.trim_start().strip_prefix('(') {
        let (inside, after) = inside.split_once(')').ok_or("a parenthesis is not closed")?;
        for a in inside.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            let value: f64 = a.parse().map_err(|_| format!("{a:?} is not a number"))?;
            arguments.push(value);
        }
        rest = after;
    }
    Ok(Some(Line { name, arguments, targets: rest.split_whitespace().collect() }))
}

/// A block of lines with its number of repetitions, or one line.
pub(super) enum Item<'a> {
    Line(usize, Line<'a>),
    Repeat(u64, Vec<Item<'a>>),
}

/// Parses blocks. Stim's loops nest; a stack keeps deep nesting off the call stack.
pub(super) fn blocks(text: &str) -> Result<Vec<Item<'_>>, String> {
    let mut stack: Vec<(u64, Vec<Item<'_>>)> = vec![(1, Vec::new())];
    for (number, text) in text.lines().enumerate() {
        let number = number + 1;
        let at = |e: String| format!("line {number}: {e}");
        let Some(mut parsed) = line(text).map_err(at)? else { continue };
        if parsed.name == "}" {
            let (times, body) =
                stack.pop().filter(|_| !stack.is_empty()).ok_or_else(|| at("} closes no block".into()))?;
            if let Some((_, outer)) = stack.last_mut() {
                outer.push(Item::Repeat(times, body));
            }
        } else if parsed.name.eq_ignore_ascii_case("repeat") {
            if parsed.targets.pop() != Some("{") || parsed.targets.len() != 1 {
                return Err(at("expected REPEAT count {".into()));
            }
            let times = parsed.targets[0].parse().map_err(|_| at(format!("{:?} is not a count", parsed.targets[0])))?;
            if stack.len() > 16 {
                return Err(at("blocks nest deeper than 16".into()));
            }
            stack.push((times, Vec::new()));
        } else {
            let Some((_, block)) = stack.last_mut() else { continue };
            block.push(Item::Line(number, parsed));
        }
    }
    match stack.pop() {
        Some((_, items)) if stack.is_empty() => Ok(items),
        _ => Err("a block is not closed".into()),
    }
}

/// Calls `each` for every line, loops written out.
pub(super) fn unroll<'a>(
    items: &[Item<'a>],
    left: &mut usize,
    each: &mut impl FnMut(&Line<'a>) -> Result<(), String>,
) -> Result<(), String> {
    for item in items {
        match item {
            Item::Line(number, l) => {
                let cost = 1 + l.targets.len();
                *left = left.checked_sub(cost).ok_or_else(|| {
                    format!("line {number}: with its loops written out the text has more than {MAX_STEPS} targets")
                })?;
                each(l).map_err(|e| format!("line {number}: {e}"))?;
            }
            Item::Repeat(times, body) => {
                for _ in 0..*times {
                    // A loop around nothing costs time, too.
                    *left = left.checked_sub(1).ok_or_else(|| format!("loops run more than {MAX_STEPS} times"))?;
                    unroll(body, left, each)?;
                }
            }
        }
    }
    Ok(())
}

pub(super) fn probabilities<const N: usize>(l: &Line<'_>) -> Result<[f64; N], String> {
    let p: [f64; N] = l.arguments.as_slice().try_into().map_err(|_| format!("{} takes {N} probabilities", l.name))?;
    if p.iter().any(|p| !(0.0..=1.0).contains(p)) || p.iter().sum::<f64>() > 1.0 + 1e-9 {
        return Err(format!("probabilities of {} are not between 0 and 1 together", l.name));
    }
    Ok(p)
}
