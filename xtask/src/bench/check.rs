//! Compares the outcomes of both sides: times can be compared only if both do the same physics.

use super::row::{Row, is_ours};
use super::side::Side;

/// Largest deviation, in standard deviations, of a parity between two samples that is taken for chance. Some ten
/// thousand parities are compared.
const BOUND: f64 = 5.5;

pub(super) fn run(
    rows: &[Row],
    ours: &mut Side,
    mut theirs: Option<&mut Side>,
    present: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let mut wrong = 0;
    for row in rows {
        let mine = ours.sample(&row.ours, row.shots, &row.name).map(|lines| columns(&lines));
        for peer in row.peers.iter().filter(|p| !is_ours(p) && present(p)) {
            let Some(side) = theirs.as_deref_mut() else { continue };
            let yours = side.sample(peer, row.shots, &row.name).map(|lines| columns(&lines));
            let verdict = match (&mine, &yours) {
                (Err(e), _) | (_, Err(e)) => e.clone(),
                (Ok(a), Ok(b)) if a.len() != b.len() => format!("{} outcomes against {}", a.len(), b.len()),
                (Ok(a), Ok(b)) => {
                    let (deviation, parity) = deviation(a, b, row.shots as f64);
                    let verdict = if deviation < BOUND { "agree" } else { "DIFFER" };
                    wrong += (deviation >= BOUND) as u32;
                    format!("{verdict}, at most {deviation:.1} standard deviations, outcomes {parity:?}")
                }
            };
            println!("{:26} {peer:>7}  {verdict}", row.name);
        }
    }
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} comparisons differ")) }
}

/// The bits of each outcome over the shots, packed.
fn columns(shots: &[String]) -> Vec<Vec<u64>> {
    let mut columns = vec![vec![0; shots.len().div_ceil(64)]; shots.first().map_or(0, String::len)];
    for (i, shot) in shots.iter().enumerate() {
        for (column, bit) in columns.iter_mut().zip(shot.bytes()) {
            column[i / 64] |= ((bit == b'1') as u64) << (i % 64);
        }
    }
    columns
}

/// Largest deviation among the parities of one, two or three outcomes and of the first k, and where it is.
fn deviation(a: &[Vec<u64>], b: &[Vec<u64>], shots: f64) -> (f64, Vec<usize>) {
    let n = a.len();
    let mut sets: Vec<Vec<usize>> = (1..=n).map(|k| (0..k).collect()).collect();
    for i in 0..n {
        sets.push(vec![i]);
        for j in 0..i {
            sets.push(vec![j, i]);
            sets.extend((0..j).map(|k| vec![k, j, i]));
        }
    }
    let odd = |columns: &[Vec<u64>], set: &[usize]| -> f64 {
        let words = columns[0].len();
        (0..words).map(|w| set.iter().fold(0, |x, &c| x ^ columns[c][w]).count_ones() as f64).sum()
    };
    let mut worst = (0.0, Vec::new());
    for set in sets {
        let (x, y) = (odd(a, &set), odd(b, &set));
        let p = (x + y) / (2.0 * shots);
        let z = (x - y).abs() / (2.0 * shots * p * (1.0 - p)).sqrt().max(1.0);
        if z > worst.0 {
            worst = (z, set);
        }
    }
    worst
}
