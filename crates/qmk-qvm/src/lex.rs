//! The lexer of assembly lines and of the expressions in them, and the rules for ids.

use crate::limits;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Id(String),
    Int(i64),
    Float(f64),
    Str(String),
    FStr(String),
    Sym(&'static str),
}

const SYMBOLS: [&str; 29] = [
    "->", "==", "!=", "<=", ">=", "&&", "||", "**", "//", "..", "(", ")", "[", "]", "{", "}", ",", ":", "=", "+", "-",
    "*", "/", "%", "<", ">", ".", "!", "@",
];

/// Splits a line into tokens.
///
/// # Errors
/// A message for the user.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let f_string = c == 'f' && matches!(rest[1..].chars().next(), Some('"' | '\''));
        if c == '"' || c == '\'' || f_string {
            let body = &rest[f_string as usize..];
            let end = string_end(body).ok_or("a string is not closed")?;
            let literal = unescape(&body[1..end - 1])?;
            out.push(if f_string { Token::FStr(literal) } else { Token::Str(literal) });
            rest = &body[end..];
        } else if c.is_ascii_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end > limits::ID {
                return Err(format!("a name is longer than {} characters", limits::ID));
            }
            out.push(Token::Id(rest[..end].into()));
            rest = &rest[end..];
        } else if c.is_ascii_digit() {
            let end = number_end(rest);
            let number = &rest[..end];
            out.push(if number.contains(['.', 'e', 'E']) {
                Token::Float(number.parse().map_err(|_| format!("{number:?} is not a number"))?)
            } else {
                Token::Int(number.parse().map_err(|_| format!("{number:?} does not fit 64 bits"))?)
            });
            rest = &rest[end..];
        } else {
            let symbol =
                SYMBOLS.iter().find(|s| rest.starts_with(**s)).ok_or_else(|| format!("unexpected character {c:?}"))?;
            out.push(Token::Sym(symbol));
            rest = &rest[symbol.len()..];
        }
        rest = rest.trim_start();
    }
    Ok(out)
}

/// Length of the string literal that starts `s`, quotes included.
pub(crate) fn string_end(s: &str) -> Option<usize> {
    let quote = s.chars().next()?;
    let mut escaped = false;
    for (i, c) in s.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// Replaces escapes in the body of a string literal: those of JSON, and `\'`.
fn unescape(s: &str) -> Result<String, String> {
    let mut out = String::with_capacity(s.len());
    let mut rest = s;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let bad = || format!("bad escape {:?} in a string", rest[i..].chars().take(6).collect::<String>());
        let c = rest[i + 1..].chars().next().ok_or_else(bad)?;
        let mut end = i + 1 + c.len_utf8();
        out.push(match c {
            '"' | '\'' | '\\' | '/' => c,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let unit = |at: usize| {
                    let hex = rest.get(at..at + 4).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
                    hex.and_then(|h| u16::from_str_radix(h, 16).ok()).ok_or_else(bad)
                };
                let mut units = vec![unit(end)?];
                end += 4;
                if (0xd800..0xdc00).contains(&units[0]) && rest[end..].starts_with("\\u") {
                    units.push(unit(end + 2)?);
                    end += 6;
                }
                out.push_str(&String::from_utf16(&units).map_err(|_| bad())?);
                rest = &rest[end..];
                continue;
            }
            _ => return Err(bad()),
        });
        rest = &rest[end..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Length of the number that starts `s`.
fn number_end(s: &str) -> usize {
    let b = s.as_bytes();
    let digits = |mut i: usize| {
        while i < b.len() && b[i].is_ascii_digit() {
            i += 1;
        }
        i
    };
    let mut i = digits(0);
    // `0..3` is a range, not `0.` and `.3`.
    if b.get(i) == Some(&b'.') && b.get(i + 1) != Some(&b'.') {
        i = digits(i + 1);
    }
    if matches!(b.get(i), Some(b'e' | b'E')) {
        let sign = matches!(b.get(i + 1), Some(b'+' | b'-')) as usize;
        let end = digits(i + 1 + sign);
        if end > i + 1 + sign {
            i = end;
        }
    }
    i
}

/// A token as a message shows it.
pub(crate) fn describe(t: &Token) -> String {
    match t {
        Token::Id(s) => format!("{:?}", clip(s)),
        Token::Int(i) => i.to_string(),
        Token::Float(f) => f.to_string(),
        Token::Str(s) | Token::FStr(s) => format!("string {:?}", clip(s)),
        Token::Sym(s) => format!("{s:?}"),
    }
}

/// A text cut to 60 characters for a message.
pub(crate) fn clip(s: &str) -> String {
    match s.char_indices().nth(60) {
        Some(_) => s.chars().take(57).chain("...".chars()).collect(),
        None => s.into(),
    }
}

/// A text without its byte order mark.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Whether an id matches `[A-Za-z_][A-Za-z0-9_]*` and is not too long.
pub(crate) fn is_id(s: &str) -> bool {
    let mut bytes = s.bytes();
    s.len() <= limits::ID
        && bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}
