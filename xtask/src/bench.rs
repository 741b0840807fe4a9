//! Benchmarks: runs criterion, then prints ratios between pairs measured in the same run.

use std::path::Path;

/// Suites and the criterion bench target that holds each.
const SUITES: [(&str, &str); 1] = [("sim", "sim")];

pub(crate) fn run(root: &Path, suite: Option<&str>) -> Result<(), String> {
    let chosen: Vec<_> = SUITES.iter().filter(|(name, _)| suite.is_none_or(|s| s == *name)).collect();
    if chosen.is_empty() {
        let known: Vec<_> = SUITES.iter().map(|s| s.0).collect();
        return Err(format!("no such suite; known: {}", known.join(", ")));
    }
    for (name, target) in chosen {
        let out = root.join("target/criterion").join(name);
        // Figures of an earlier run must not be taken for this one's.
        _ = std::fs::remove_dir_all(&out);
        let args = ["-p", "qmk-tests", "--bench", target].map(String::from);
        super::cargo(root, "bench", &args)?;
        print(&out, name)?;
    }
    Ok(())
}

/// Each group is a directory that holds `qmk` and one or more references.
fn print(out: &Path, suite: &str) -> Result<(), String> {
    println!("{:32} {:>12}  {:>28} {:>8}", suite, "qmk", "reference", "ratio");
    let list = |dir: &Path| -> Result<Vec<std::path::PathBuf>, String> {
        let read = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut paths: Vec<_> = read.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect();
        paths.sort();
        Ok(paths)
    };
    for group in list(out)? {
        let Ok(ours) = median(&group.join("qmk")) else { continue };
        let workload = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for reference in list(&group)? {
            let name = reference.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != "qmk" && name != "report" {
                let theirs = median(&reference)?;
                let shown = format!("{name} {:.3} ms", theirs / 1e6);
                println!("{workload:32} {:9.3} ms  {shown:>28} {:8.3}", ours / 1e6, ours / theirs);
            }
        }
    }
    Ok(())
}

/// Median of a criterion benchmark in nanoseconds.
fn median(dir: &Path) -> Result<f64, String> {
    let path = dir.join("new/estimates.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let v: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    v["median"]["point_estimate"].as_f64().ok_or_else(|| format!("{}: no median", path.display()))
}
