//! Many jobs: how fast, whether any is lost, and whether the server grows.

use crate::calls::{session, submit, submitted, wait};
use crate::process::{Failure, Process};
use crate::wire::{Form, Wire};
use qmk_abi::rpc::{Reply, Request};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs jobs from submission to result until `more` says no; returns how many.
fn work(process: &Process, form: Form, more: impl Fn() -> bool) -> Result<u64, String> {
    let run = || -> Result<u64, Failure> {
        let mut wire = Wire::new(form, process.connect()?);
        let id = session(&mut wire)?;
        let mut done = 0;
        while more() {
            let job = submitted(&id, wire.call(&submit(&id))?)?;
            wire.call(&wait(&job))?;
            match wire.call(&Request::JobResult(job.clone()))? {
                Reply::Result(r) if r.job_id == job.job_id && r.report.counts.values().sum::<u64>() == 1 => done += 1,
                other => return Err(format!("not the result of {}: {other:?}", job.job_id).into()),
            }
        }
        Ok(done)
    };
    run().map_err(|e| e.to_string())
}

pub(crate) fn throughput(process: &Process, quiet: bool) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for (name, form) in [("binary", Form::Binary), ("json", Form::Json)] {
        for connections in [1, 8, 64] {
            let (start, time) = (Instant::now(), Duration::from_secs(3));
            let done = std::thread::scope(|scope| {
                let clients: Vec<_> =
                    (0..connections).map(|_| scope.spawn(|| work(process, form, || start.elapsed() < time))).collect();
                clients
                    .into_iter()
                    .map(|c| c.join().map_err(|_| "a client panicked".to_string())?)
                    .sum::<Result<u64, _>>()
            })?;
            let rate = done as f64 / start.elapsed().as_secs_f64();
            if !quiet {
                println!(
                    "{connections:>3} connections, {name}: {rate:.0} Bell jobs per second, {done} in all, none lost"
                );
            }
            rows.push(json!({"connections": connections, "form": name, "jobs": done, "per_second": rate}));
        }
    }
    Ok(rows)
}

pub(crate) fn memory(process: &Process, jobs: u64, quiet: bool) -> Result<Value, Failure> {
    let (taken, start) = (AtomicU64::new(0), Instant::now());
    let mut steps = Vec::new();
    let done = std::thread::scope(|scope| -> Result<u64, Failure> {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| work(process, Form::Binary, || taken.fetch_add(1, Ordering::Relaxed) < jobs)))
            .collect();
        for tenth in 1..=10 {
            while taken.load(Ordering::Relaxed) < jobs * tenth / 10 && !clients.iter().all(|c| c.is_finished()) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let resident = process.resident()?;
            steps.push(resident);
            if !quiet {
                println!(
                    "{:>3} % of {jobs} jobs: {resident} KiB resident, {:.1} s",
                    tenth * 10,
                    start.elapsed().as_secs_f64()
                );
            }
        }
        let mut done = 0;
        for c in clients {
            done += c.join().map_err(|_| "a client panicked")??;
        }
        Ok(done)
    })?;
    // What the sessions keep is complete after a fifth.
    let pass = done == jobs && steps[9] <= steps[1] + steps[1] / 20;
    if !quiet {
        println!("{done} of {jobs} jobs done; memory is {}", if pass { "flat: PASS" } else { "not flat: FAIL" });
    }
    Ok(json!({"jobs": done, "resident_kib": steps, "pass": pass}))
}
