//! Error-correction profiles of allocations, such as `logical:surface_code(d=7)`.

/// A parsed profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Canonical code or scheme name: `surface_code`, `bacon_shor`, `shyps`, `floquet`.
    pub code: String,
    /// Code distance.
    pub distance: u32,
    /// Physical error rate, if given.
    pub error_rate: Option<f64>,
    /// Qubit parameter set of an `azure:` profile.
    pub qubit: Option<String>,
}

const QUBITS: [&str; 6] = [
    "qubit_gate_ns_e3",
    "qubit_gate_ns_e4",
    "qubit_gate_us_e3",
    "qubit_gate_us_e4",
    "qubit_maj_ns_e4",
    "qubit_maj_ns_e6",
];

impl Profile {
    /// Parses `logical:<code>(d=<odd>[, p=<rate>])` or `azure:<qubit>:<scheme>(d=<odd>)`.
    ///
    /// # Errors
    /// A message for the user that names the wrong part and the values that are allowed.
    pub fn parse(text: &str) -> Result<Profile, String> {
        let lower = text.trim().to_ascii_lowercase();
        let (kind, rest) = lower.split_once(':').ok_or_else(|| {
            format!("profile {text:?} is not logical:<code>(d=<odd>) or azure:<qubit>:<scheme>(d=<odd>)")
        })?;
        let (qubit, rest) = match kind {
            "logical" => (None, rest),
            "azure" => {
                let (q, rest) = rest.split_once(':').ok_or_else(|| format!("profile {text:?} names no scheme"))?;
                if !QUBITS.contains(&q) {
                    return Err(format!("unknown qubit parameters {q:?}; known: {}", QUBITS.join(", ")));
                }
                (Some(q.to_string()), rest)
            }
            _ => return Err(format!("profile {text:?} must begin with logical: or azure:")),
        };
        let (code, args) = rest
            .split_once('(')
            .and_then(|(c, a)| Some((c.trim(), a.trim_end().strip_suffix(')')?)))
            .ok_or_else(|| format!("profile {text:?} lacks (d=<odd>)"))?;
        let code = match code {
            "surface_code" | "surface" => "surface_code",
            "bacon_shor" if qubit.is_none() => "bacon_shor",
            "shyps" if qubit.is_none() => "shyps",
            "floquet" | "honeycomb" if qubit.is_none() => "floquet",
            "floquet_code" if qubit.is_some() => "floquet",
            _ => return Err(format!("unknown code {code:?}; known: surface_code, bacon_shor, shyps, floquet")),
        };
        let (mut distance, mut error_rate) = (None, None);
        for arg in args.split(',') {
            let (key, value) =
                arg.split_once('=').ok_or_else(|| format!("profile argument {arg:?} is not key=value"))?;
            match key.trim() {
                "d" => {
                    let d: u32 =
                        value.trim().parse().map_err(|_| format!("distance {value:?} is not a whole number"))?;
                    if !(3..=99).contains(&d) || d.is_multiple_of(2) {
                        return Err(format!("distance {d} is not odd and between 3 and 99"));
                    }
                    distance = Some(d);
                }
                "p" if qubit.is_none() => {
                    let p: f64 = value.trim().parse().map_err(|_| format!("error rate {value:?} is not a number"))?;
                    if !(p > 0.0 && p < 0.5) {
                        return Err(format!("error rate {p} is not between 0 and 0.5"));
                    }
                    error_rate = Some(p);
                }
                other => return Err(format!("unknown profile argument {other:?}")),
            }
        }
        let distance = distance.ok_or_else(|| format!("profile {text:?} lacks d=<odd>"))?;
        Ok(Profile { code: code.into(), distance, error_rate, qubit })
    }

    /// Physical qubits per logical qubit, ancillas included. A code of several logical qubits shares its own evenly,
    /// rounded up.
    pub fn physical_per_logical(&self) -> u64 {
        let d = self.distance as u64;
        match self.code.as_str() {
            // d² data and d²-1 ancillas (surface), d² data and 2d(d-1) gauge ancillas (Bacon-Shor).
            "surface_code" if self.qubit.is_some() => 2 * d * d,
            "surface_code" => 2 * d * d - 1,
            "bacon_shor" => d * d + 2 * d * (d - 1),
            // Azure estimator: 4d² + 8(d-1) (arXiv:2211.07629).
            "floquet" => 4 * d * d + 8 * (d - 1),
            // [(2^r-1)², r², 2^(r-1)] with 2^(r-1) >= d, one ancilla per data qubit, shared by r² logical qubits
            // (arXiv:2502.07150).
            _ => {
                let r = (d.next_power_of_two().trailing_zeros() as u64 + 1).max(3);
                let n = ((1u64 << r) - 1).pow(2);
                (2 * n).div_ceil(r * r)
            }
        }
    }
}
