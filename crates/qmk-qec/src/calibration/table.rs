//! The table of rows and fits, and its text.

use super::fit::Fit;
use super::row::{Counts, Row};
use crate::error::CalibrationError;
use std::fmt::{self, Display};

/// Physical error rates below this are not extrapolated to.
pub const MIN_P: f64 = 1e-6;

/// Rows and fits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The measured rates.
    pub rows: Vec<Row>,
    /// The laws that were fitted to them.
    pub fits: Vec<Fit>,
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "#row\tcode\terror\tdistance\tp\tlogical_qubits\trounds1\tshots1\tfailures1\trounds2\tshots2\tfailures2\t\
             rate\tlow\thigh\tus_per_round"
        )?;
        for r in &self.rows {
            let (rate, [low, high]) = r.rate();
            write!(f, "row\t{}\t{}\t{}\t{}\t{}", r.code, r.error, r.distance, r.p, r.logical_qubits)?;
            for c in r.counts {
                write!(f, "\t{}\t{}\t{}", c.rounds, c.shots, c.failures)?;
            }
            writeln!(f, "\t{rate:.4e}\t{low:.4e}\t{high:.4e}\t{:.4}", r.us_per_round)?;
        }
        writeln!(f, "#fit\tcode\terror\tq\ta\tb\tc\tg\tmax_p\trows\trms\tworst")?;
        for t in &self.fits {
            let q = if t.scaled { "d*p" } else { "p" };
            let [a, b, c, g] = t.law;
            let (rms, worst) = (t.rms, t.worst);
            writeln!(
                f,
                "fit\t{}\t{}\t{q}\t{a}\t{b}\t{c}\t{g}\t{}\t{}\t{rms:.4}\t{worst:.4}",
                t.code, t.error, t.max_p, t.rows
            )?;
        }
        Ok(())
    }
}

impl Table {
    /// Reads a table as [`Display`] writes it. Rates and intervals of rows follow from their counts and are not read.
    ///
    /// # Errors
    /// [`CalibrationError::Line`] for a line that is neither a row nor a fit.
    pub fn parse(text: &str) -> Result<Table, CalibrationError> {
        fn number<T: std::str::FromStr>(text: Option<&&str>) -> Option<T> {
            text?.parse().ok()
        }
        let row = |f: &[&str]| {
            let counts = |i: usize| {
                Some(Counts {
                    rounds: number(f.get(i))?,
                    shots: number(f.get(i + 1))?,
                    failures: number(f.get(i + 2))?,
                })
            };
            Some(Row {
                code: f.get(1)?.to_string(),
                error: number(f.get(2))?,
                distance: number(f.get(3))?,
                p: number(f.get(4))?,
                logical_qubits: number(f.get(5))?,
                counts: [counts(6)?, counts(9)?],
                us_per_round: number(f.get(15))?,
            })
        };
        let fit = |f: &[&str]| {
            Some(Fit {
                code: f.get(1)?.to_string(),
                error: number(f.get(2))?,
                scaled: *f.get(3)? == "d*p",
                law: [number(f.get(4))?, number(f.get(5))?, number(f.get(6))?, number(f.get(7))?],
                max_p: number(f.get(8))?,
                rows: number(f.get(9))?,
                rms: number(f.get(10))?,
                worst: number(f.get(11))?,
            })
        };
        let mut table = Table::default();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let read = match fields[0] {
                "row" => row(&fields).map(|r| table.rows.push(r)),
                "fit" => fit(&fields).map(|f| table.fits.push(f)),
                _ => None,
            };
            read.ok_or_else(|| CalibrationError::Line { line: i + 1, text: line.into() })?;
        }
        Ok(table)
    }

    /// Rows of a code and error, ascending by distance and physical error rate.
    pub(super) fn of(&self, code: &str, error: char) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().filter(|r| r.code == code && r.error == error).collect();
        rows.sort_by(|a, b| a.distance.cmp(&b.distance).then(a.p.total_cmp(&b.p)));
        rows
    }

    /// Rate of one kind of logical error, and whether it is extrapolated.
    ///
    /// # Errors
    /// [`CalibrationError`] if the code is not in the table, or the physical error rate is out of range.
    pub(super) fn rate(&self, code: &str, error: char, distance: u32, p: f64) -> Result<(f64, bool), CalibrationError> {
        let rows = self.of(code, error);
        let fit = self.fits.iter().find(|f| f.code == code && f.error == error);
        let fit = fit.ok_or_else(|| CalibrationError::Code(code.into()))?;
        let here: Vec<&&Row> = rows.iter().filter(|r| r.distance == distance).collect();
        let most = here.last().map_or(fit.max_p, |r| r.p.max(fit.max_p));
        if !(MIN_P..=most).contains(&p) {
            return Err(CalibrationError::ErrorRate { code: code.into(), distance, p, low: MIN_P, high: most });
        }
        if let Some(w) = here.windows(2).find(|w| w[0].p <= p && p <= w[1].p) {
            let [a, b] = [w[0], w[1]].map(|r| (r.p.ln(), r.rate().0.ln()));
            return Ok(((a.1 + (b.1 - a.1) * (p.ln() - a.0) / (b.0 - a.0)).exp(), false));
        }
        // Beyond the measured points the law is scaled to meet the outermost one, so that the rate has no jump.
        let edge = here.first().filter(|r| p < r.p).or(here.last());
        let anchor = edge.map_or(1.0, |r| r.rate().0 / fit.at(distance, r.p));
        Ok(((anchor * fit.at(distance, p)).min(0.5), true))
    }
}
