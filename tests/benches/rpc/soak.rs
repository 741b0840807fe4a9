//! `cargo xtask soak`: clients of all manners, good and bad, for a while; afterwards the server must be as it was.

use crate::calls::{BELL, session, submit, submitted, wait};
use crate::process::{Failure, Process};
use crate::wire::{Form, Wire};
use qmk_abi::rpc::{ErrorCode, Format, JobRef, JobSubmit, Policy, Reply, Request, RpcError, SessionCreate, SessionRef};
use qmk_testkit::Rng;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 64;
/// Sessions a tenant may have in the server that is soaked.
pub(crate) const SESSIONS: usize = 400;

/// A program that needs each shot for itself, for a time that is felt.
fn slow(session_id: &str, shots: u64) -> Request {
    let source = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\n";
    let policy = Policy { shots, ..Policy::default() };
    Request::JobSubmit(JobSubmit { session_id: session_id.into(), source: source.into(), format: Format::Asm, policy })
}

/// One round of a client; what it did, for the account.
fn round(process: &Process, rng: &mut Rng) -> Result<&'static str, Failure> {
    let form = if rng.below(2) == 0 { Form::Binary } else { Form::Json };
    let mut wire = Wire::new(form, process.connect()?);
    let id = session(&mut wire)?;
    let cancel = |job: &JobRef| Request::JobCancel(job.clone());
    Ok(match rng.below(7) {
        0 | 1 => {
            for _ in 0..rng.below(20) {
                let job = submitted(&id, wire.call(&submit(&id))?)?;
                wire.call(&wait(&job))?;
                match wire.call(&Request::JobResult(job))? {
                    Reply::Result(r) if r.report.counts.keys().all(|k| k == "00" || k == "11") => {}
                    other => return Err(format!("not a Bell pair: {other:?}").into()),
                }
            }
            "jobs"
        }
        2 => {
            let job = submitted(&id, wire.call(&slow(&id, 1 + rng.below(10_000_000) as u64))?)?;
            std::thread::sleep(Duration::from_millis(rng.below(20) as u64));
            match wire.call(&cancel(&job)) {
                Ok(_) => "cancelled",
                Err(e) if code(&*e) == Some(ErrorCode::AlreadyCompleted) => "cancelled too late",
                Err(e) => return Err(e),
            }
        }
        3 => {
            wire.call(&slow(&id, 100_000_000))?;
            // Leaves without a word, in the middle of a wait.
            let job = submitted(&id, wire.call(&slow(&id, 100_000_000))?)?;
            let message = wire.encode(&wait(&job));
            wire.stream().write_all(&message)?;
            "disconnected"
        }
        4 => {
            // Asks for more than it reads, and reads that slowly.
            let message = wire.encode(&Request::ResourceQuery(SessionRef { session_id: id })).repeat(500);
            let stream = wire.stream();
            stream.set_write_timeout(Some(Duration::from_millis(100)))?;
            _ = stream.write_all(&message);
            for _ in 0..rng.below(10) {
                _ = stream.read(&mut [0; 100])?;
                std::thread::sleep(Duration::from_millis(20));
            }
            "read slowly"
        }
        5 => {
            wire.call(&Request::ResourceQuery(SessionRef { session_id: id.clone() }))?;
            let message = wire.encode(&submit(&id));
            let stream = wire.stream();
            stream.write_all(&message[..rng.below(message.len())])?;
            if rng.below(2) == 0 {
                stream.shutdown(std::net::Shutdown::Write)?;
            }
            std::thread::sleep(Duration::from_millis(rng.below(100) as u64));
            "half open"
        }
        _ => {
            wire.call(&Request::SessionClose(SessionRef { session_id: id.clone() }))?;
            match wire.call(&submit(&id)) {
                Err(e) if code(&*e) == Some(ErrorCode::SessionNotFound) => "closed",
                other => return Err(format!("a closed session takes {BELL:?}: {other:?}").into()),
            }
        }
    })
}

fn code(e: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    e.downcast_ref::<RpcError>().map(|e| e.code)
}

/// Threads and descriptors of the server.
fn held(process: &Process) -> Result<(usize, usize), Failure> {
    let count = |what: &str| -> Result<usize, Failure> {
        Ok(std::fs::read_dir(format!("/proc/{}/{what}", process.id()))?.count())
    };
    Ok((count("task")?, count("fd")?))
}

pub(crate) fn run(process: &Process, time: Duration) -> Result<(), Failure> {
    let before = held(process)?;
    let (start, mut done) = (Instant::now(), BTreeMap::new());
    println!("seeds 1 to {CLIENTS}, {} s", time.as_secs());
    std::thread::scope(|scope| -> Result<(), Failure> {
        let client = |seed: u64| {
            let (mut rng, mut done) = (Rng::new(seed), BTreeMap::<&str, u64>::new());
            while start.elapsed() < time {
                let what = round(process, &mut rng).map_err(|e| format!("client {seed}: {e}"))?;
                *done.entry(what).or_default() += 1;
            }
            Ok::<_, String>(done)
        };
        let clients: Vec<_> = (1..=CLIENTS).map(|seed| scope.spawn(move || client(seed))).collect();
        let mut next = Duration::ZERO;
        while !clients.iter().all(|c| c.is_finished()) {
            if start.elapsed() >= next {
                let (threads, files) = held(process)?;
                let resident = process.resident()?;
                println!("{:>5} s: {resident} KiB, {threads} threads, {files} descriptors", start.elapsed().as_secs());
                next += time / 10;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for c in clients {
            for (what, n) in c.join().map_err(|_| "a client panicked")?? {
                *done.entry(what).or_insert(0) += n;
            }
        }
        Ok(())
    })?;
    println!("{done:?}");
    let end = Instant::now();
    while held(process)? != before && end.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = held(process)?;
    println!("threads and descriptors: {before:?} before, {after:?} after");
    let mut wire = Wire::new(Form::Binary, process.connect()?);
    let id = session(&mut wire)?;
    let end = Instant::now();
    let (free, all, jobs, qubits) = loop {
        let Reply::Resources(r) = wire.call(&Request::ResourceQuery(SessionRef { session_id: id.clone() }))? else {
            return Err("no resources".into());
        };
        let now = (r.machine.logical_qubits_free, r.machine.logical_qubits, r.usage.jobs, r.usage.logical_qubits);
        if now.0 == now.1 && now.2 == 0 || end.elapsed() > Duration::from_secs(10) {
            break now;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    println!("{free} of {all} qubits free; the tenant has {qubits} qubits and {jobs} unfinished jobs");
    // A session that its connection used again makes no room for another, so a tenant's fill up with those that leaked.
    let mut opened = 1;
    while opened < SESSIONS {
        let Reply::Session(s) = wire.call(&Request::SessionCreate(SessionCreate::default()))? else { break };
        wire.call(&Request::ResourceQuery(SessionRef { session_id: s.session_id }))?;
        opened += 1;
    }
    println!("{opened} of {SESSIONS} sessions could be opened");
    if after != before || free != all || jobs != 0 || qubits != 0 {
        return Err("something leaked".into());
    }
    println!("nothing leaked: PASS");
    Ok(())
}
