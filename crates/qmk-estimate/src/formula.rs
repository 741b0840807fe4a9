//! Formulas over named numbers, such as `(4 * twoQubitGateTime + 2 * oneQubitMeasurementTime) * codeDistance`.
//!
//! Users write them. A formula is short, its nesting is bounded, and it has no loops, so its evaluation takes a time
//! that is bounded by its length.

/// Most bytes of a formula.
const LENGTH: usize = 500;
/// Deepest nesting of parentheses, calls, signs and powers.
const DEPTH: usize = 30;
/// Functions, each with the least and the largest number of its arguments.
const FUNCTIONS: [(&str, usize, usize); 8] = [
    ("abs", 1, 1),
    ("ceil", 1, 1),
    ("floor", 1, 1),
    ("log", 1, 2),
    ("max", 1, 8),
    ("min", 1, 8),
    ("round", 1, 1),
    ("sqrt", 1, 1),
];

/// A formula, ready to be evaluated.
#[derive(Clone, Debug)]
pub(crate) struct Formula {
    text: String,
    /// In postfix order: operands first.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Number(f64),
    /// Index of a name.
    Variable(usize),
    Negate,
    Binary(u8),
    /// Index of a function, and the number of its arguments.
    Call(usize, usize),
}

impl Formula {
    /// Reads a formula over `names`: numbers, `+ - * / % ^`, parentheses, and `abs ceil floor log max min round sqrt`.
    /// `log(x)` has base 10, `log(b, x)` base b.
    ///
    /// # Errors
    /// The character at which the text is no formula, and what would be right there.
    pub(crate) fn parse(text: &str, names: &[&str]) -> Result<Formula, String> {
        if text.len() > LENGTH {
            return Err(format!("the formula is {} bytes long; at most {LENGTH} are read", text.len()));
        }
        let mut parser = Parser { text, at: 0, names, steps: Vec::new() };
        parser.sum(DEPTH)?;
        if parser.peek().is_some() {
            return Err(parser.wrong("an operator"));
        }
        Ok(Formula { text: text.into(), steps: parser.steps })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The value, where the i-th name has the i-th of `values`. It may be infinite or not a number.
    pub(crate) fn value(&self, values: &[f64]) -> f64 {
        let mut stack: Vec<f64> = Vec::with_capacity(8);
        for step in &self.steps {
            let value = match *step {
                Step::Number(x) => x,
                Step::Variable(i) => values.get(i).copied().unwrap_or(f64::NAN),
                Step::Negate => -stack.pop().unwrap_or(f64::NAN),
                Step::Binary(op) => {
                    let (b, a) = (stack.pop().unwrap_or(f64::NAN), stack.pop().unwrap_or(f64::NAN));
                    match op {
                        b'+' => a + b,
                        b'-' => a - b,
                        b'*' => a * b,
                        b'/' => a / b,
                        b'%' => a % b,
                        // Whole powers are products, without the rounding of a logarithm.
                        _ if b.fract() == 0.0 && b.abs() <= 1024.0 => a.powi(b as i32),
                        _ => a.powf(b),
                    }
                }
                Step::Call(function, arguments) => {
                    let given = stack.split_off(stack.len().saturating_sub(arguments));
                    let first = given.first().copied().unwrap_or(f64::NAN);
                    match FUNCTIONS[function].0 {
                        "abs" => first.abs(),
                        "ceil" => first.ceil(),
                        "floor" => first.floor(),
                        "log" => given.get(1).map_or(first.log10(), |x| x.log(first)),
                        "max" => given.into_iter().fold(first, f64::max),
                        "min" => given.into_iter().fold(first, f64::min),
                        "round" => first.round(),
                        _ => first.sqrt(),
                    }
                }
            };
            stack.push(value);
        }
        stack.pop().unwrap_or(f64::NAN)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    names: &'a [&'a str],
    steps: Vec<Step>,
}

impl Parser<'_> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: &[u8]) -> Option<u8> {
        let found = self.peek().filter(|c| wanted.contains(c))?;
        self.at += 1;
        Some(found)
    }

    /// The longest prefix of the rest whose characters are `of` a kind.
    fn word(&mut self, of: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(|c| !of(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn wrong(&self, expected: &str) -> String {
        let found = self.text[self.at..].chars().next().map_or("the end".into(), |c| format!("{c:?}"));
        format!("expected {expected} at character {}, found {found}", self.text[..self.at].chars().count() + 1)
    }

    fn sum(&mut self, depth: usize) -> Result<(), String> {
        self.product(depth)?;
        while let Some(op) = self.take(b"+-") {
            self.product(depth)?;
            self.steps.push(Step::Binary(op));
        }
        Ok(())
    }

    fn product(&mut self, depth: usize) -> Result<(), String> {
        self.signed(depth)?;
        while let Some(op) = self.take(b"*/%") {
            self.signed(depth)?;
            self.steps.push(Step::Binary(op));
        }
        Ok(())
    }

    fn signed(&mut self, depth: usize) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or_else(|| format!("the formula is nested deeper than {DEPTH}"))?;
        if let Some(sign) = self.take(b"+-") {
            self.signed(depth)?;
            if sign == b'-' {
                self.steps.push(Step::Negate);
            }
            return Ok(());
        }
        self.atom(depth)?;
        // A power binds to the right, and its exponent may have a sign.
        if self.take(b"^").is_some() {
            self.signed(depth)?;
            self.steps.push(Step::Binary(b'^'));
        }
        Ok(())
    }

    fn atom(&mut self, depth: usize) -> Result<(), String> {
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                self.sum(depth)?;
                self.take(b")").map(drop).ok_or_else(|| self.wrong("')'"))
            }
            Some(c) if c.is_ascii_digit() || c == b'.' => {
                let digits = |c: char| c.is_ascii_digit() || c == '.';
                let mut number = self.word(digits).to_string();
                if self.text[self.at..].starts_with(['e', 'E']) {
                    self.at += 1;
                    let sign = self.word(|c| c == '-' || c == '+').to_string();
                    number = format!("{number}e{sign}{}", self.word(digits));
                }
                let value = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
                self.steps.push(Step::Number(value));
                Ok(())
            }
            Some(c) if c.is_ascii_alphabetic() => {
                let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_').to_string();
                if let Some(i) = self.names.iter().position(|n| *n == name) {
                    self.steps.push(Step::Variable(i));
                    return Ok(());
                }
                let known = || {
                    let functions: Vec<&str> = FUNCTIONS.iter().map(|f| f.0).collect();
                    format!("{name} has no value here; use {} or {}", self.names.join(", "), functions.join(", "))
                };
                let function = FUNCTIONS.iter().position(|f| f.0 == name).ok_or_else(known)?;
                self.take(b"(").ok_or_else(|| self.wrong("'('"))?;
                let mut given = 0;
                loop {
                    self.sum(depth)?;
                    given += 1;
                    if self.take(b",").is_none() {
                        break;
                    }
                }
                self.take(b")").ok_or_else(|| self.wrong("')'"))?;
                let (_, least, most) = FUNCTIONS[function];
                if !(least..=most).contains(&given) {
                    return Err(format!("{name} takes {least} to {most} arguments, not {given}"));
                }
                self.steps.push(Step::Call(function, given));
                Ok(())
            }
            _ => Err(self.wrong("a number, a name or '('")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Formula;

    fn value(text: &str) -> Result<f64, String> {
        Formula::parse(text, &["d", "t"]).map(|f| f.value(&[7.0, 0.5]))
    }

    #[test]
    fn formulas_are_arithmetic() {
        let table = [
            ("2 * d * d", 98.0),
            ("(4 * t + 2*10.5) * d", 161.0),
            ("4*d*d+8*(d-1)", 244.0),
            ("2^3^2", 512.0),
            ("-2^2", -4.0),
            ("2^-1", 0.5),
            ("1 - 2 - 3", -4.0),
            ("7 % 4 * 2", 6.0),
            ("1e1 + 1.5E-1", 10.15),
            ("max(d, 3, 9) + min(d, 3) + abs(-1) + ceil(t) + floor(t) + round(2.6) + sqrt(4)", 19.0),
            ("log(100) + log(2, 8)", 5.0),
            ("--d", 7.0),
        ];
        for (text, want) in table {
            assert!((value(text).unwrap() - want).abs() < 1e-12, "{text}: {:?}", value(text));
        }
        assert!(value("1/0").unwrap().is_infinite() && value("0/0").unwrap().is_nan());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("", "at character 1, found the end"),
            ("d d", "expected an operator at character 3, found 'd'"),
            ("(d", "expected ')'"),
            ("é", "at character 1, found 'é'"),
            ("tGateTime", "tGateTime has no value here; use d, t or abs"),
            ("sqrt(1, 2)", "sqrt takes 1 to 1 arguments, not 2"),
            ("1.2.3", "\"1.2.3\" is not a number"),
        ];
        for (text, want) in table {
            assert!(value(text).unwrap_err().contains(want), "{text}: {}", value(text).unwrap_err());
        }
        let deep = |n: usize| format!("{}d{}", "(".repeat(n), ")".repeat(n));
        assert!(value(&deep(29)).is_ok());
        assert!(value(&deep(100)).unwrap_err().contains("nested deeper"));
        assert!(value(&"-".repeat(400)).unwrap_err().contains("nested deeper"));
        assert!(value(&"1+".repeat(300)).unwrap_err().contains("600 bytes long"));
    }
}
