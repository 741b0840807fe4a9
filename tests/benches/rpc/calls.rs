//! Round trips of single calls, each as a ratio to an echo of as many bytes.

use crate::process::{Failure, Process};
use crate::wire::{Form, Wire};
use qmk_abi::rpc::{Format, JobRef, JobSubmit, JobWait, Policy, Reply, Request, SessionCreate, SessionRef};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub(crate) const BELL: &str =
    "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y\nFREE_LQ a, b\n";

/// A call, its goals for the median in both forms, and the longest that its 99th percentile may be.
const ROWS: [(&str, f64, f64, Duration); 5] = [
    ("status", 1.2, 1.4, Duration::from_millis(1)),
    ("session create", 1.5, 2.0, Duration::from_millis(1)),
    ("submit", 1.5, 2.5, Duration::from_millis(5)),
    // A program that the connection did not submit just before.
    ("submit new", 1.5, 2.5, Duration::from_millis(5)),
    // Three round trips: submit, wait, result.
    ("submit to result", 3.0, 4.0, Duration::from_millis(5)),
];
/// Goal for the ratio of the 99th percentiles.
const TAIL: f64 = 3.0;

pub(crate) fn submit(session_id: &str) -> Request {
    Request::JobSubmit(JobSubmit {
        session_id: session_id.into(),
        source: BELL.into(),
        format: Format::Asm,
        policy: Policy::default(),
    })
}

pub(crate) fn wait(job: &JobRef) -> Request {
    let JobRef { session_id, job_id } = job.clone();
    Request::JobWait(JobWait { session_id, job_id, timeout_ms: None })
}

pub(crate) fn submitted(session_id: &str, reply: Reply) -> Result<JobRef, Failure> {
    match reply {
        Reply::Submitted(s) => Ok(JobRef { session_id: session_id.into(), job_id: s.job_id }),
        other => Err(format!("unexpected reply {other:?}").into()),
    }
}

pub(crate) fn session(wire: &mut Wire) -> Result<String, Failure> {
    match wire.call(&Request::SessionCreate(SessionCreate::default()))? {
        Reply::Session(s) => Ok(s.session_id),
        other => Err(format!("unexpected reply {other:?}").into()),
    }
}

/// The times of one call, and what it sent and got.
struct Timed {
    time: Duration,
    steps: Vec<(usize, usize)>,
}

struct Caller {
    wire: Wire,
    session: String,
    job: JobRef,
    count: u64,
}

impl Caller {
    fn new(process: &Process, form: Form) -> Result<Caller, Failure> {
        let mut wire = Wire::new(form, process.connect()?);
        let session = session(&mut wire)?;
        let job = submitted(&session, wire.call(&submit(&session))?)?;
        wire.call(&wait(&job))?;
        Ok(Caller { wire, session, job, count: 0 })
    }

    /// Performs a call once; what it needs before and after is not timed.
    fn once(&mut self, what: &str) -> Result<Timed, Failure> {
        let wire = &mut self.wire;
        let mut steps = Vec::new();
        let mut timed = |wire: &mut Wire, request: &Request| -> Result<(Duration, Reply), Failure> {
            let message = wire.encode(request);
            let start = Instant::now();
            let reply = wire.exchange(&message)?.to_vec();
            let time = start.elapsed();
            steps.push((message.len(), reply.len()));
            Ok((time, wire.decode(request, &reply)?))
        };
        let time = match what {
            "status" => timed(wire, &Request::JobStatus(self.job.clone()))?.0,
            "session create" => {
                let (time, reply) = timed(wire, &Request::SessionCreate(SessionCreate::default()))?;
                let Reply::Session(s) = reply else { return Err("no session".into()) };
                wire.call(&Request::SessionClose(SessionRef { session_id: s.session_id }))?;
                time
            }
            "submit" | "submit new" => {
                let mut request = submit(&self.session);
                if let (Request::JobSubmit(p), "submit new") = (&mut request, what) {
                    self.count += 1;
                    p.source += &format!("; {:08}", self.count);
                }
                let (time, reply) = timed(wire, &request)?;
                wire.call(&wait(&submitted(&self.session, reply)?))?;
                time
            }
            _ => {
                // The client's own work between the three is not the server's.
                let (first, reply) = timed(wire, &submit(&self.session))?;
                let job = submitted(&self.session, reply)?;
                let (second, _) = timed(wire, &wait(&job))?;
                let (third, reply) = timed(wire, &Request::JobResult(job))?;
                let Reply::Result(r) = reply else { return Err("no result".into()) };
                if r.report.counts.values().sum::<u64>() != 1 {
                    return Err(format!("not one shot: {r:?}").into());
                }
                first + second + third
            }
        };
        Ok(Timed { time, steps })
    }
}

/// As many bytes there and back, and nothing else.
fn echo(stream: &mut UnixStream, steps: &[(usize, usize)], bytes: &mut [u8]) -> Result<Duration, Failure> {
    let mut sum = Duration::ZERO;
    for &(request, reply) in steps {
        let start = Instant::now();
        stream.write_all(&bytes[..request])?;
        stream.read_exact(&mut bytes[..reply])?;
        sum += start.elapsed();
    }
    Ok(sum)
}

fn percentile(sorted: &[Duration], p: usize) -> f64 {
    sorted.get(sorted.len() * p / 100).or(sorted.last()).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6)
}

pub(crate) fn run(process: &Process, pairs: usize, quiet: bool) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    if !quiet {
        println!(
            "{:17} {:7} {:>6} {:>9} {:>9} {:>6} {:>5} {:>9} {:>9} {:>6} {:>5}",
            "call", "form", "pairs", "p50 us", "echo", "ratio", "goal", "p99 us", "echo", "ratio", "goal"
        );
    }
    for (what, binary, json_goal, bound) in ROWS {
        for (form, goal) in [(Form::Binary, binary), (Form::Json, json_goal)] {
            let mut caller = Caller::new(process, form)?;
            let steps = caller.once(what)?.steps;
            let mut stream = process.echo(&steps)?;
            let mut bytes = vec![b'x'; 64 << 10];
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for i in 0..pairs + pairs / 20 {
                let (a, b) = (caller.once(what)?.time, echo(&mut stream, &steps, &mut bytes)?);
                // The first are to warm up.
                if i >= pairs / 20 {
                    ours.push(a);
                    theirs.push(b);
                }
            }
            ours.sort();
            theirs.sort();
            let [p50, echo50, p99, echo99] =
                [(&ours, 50), (&theirs, 50), (&ours, 99), (&theirs, 99)].map(|(v, p)| percentile(v, p));
            let bound_us = bound.as_secs_f64() * 1e6;
            let pass = p50 <= goal * echo50 && p99 <= TAIL * echo99 && p99 <= bound_us;
            let name = if form == Form::Binary { "binary" } else { "json" };
            if !quiet {
                println!(
                    "{what:17} {name:7} {pairs:>6} {p50:>9.1} {echo50:>9.1} {:>6.2} {goal:>5.1} {p99:>9.1} {echo99:>9.1} \
                     {:>6.2} {TAIL:>5.1}  {}",
                    p50 / echo50,
                    p99 / echo99,
                    if pass { "PASS" } else { "FAIL" }
                );
            }
            rows.push(json!({
                "call": what, "form": name, "pairs": pairs, "bytes": steps, "pass": pass,
                "p50_us": p50, "echo_p50_us": echo50, "p50_ratio": p50 / echo50, "p50_goal": goal,
                "p99_us": p99, "echo_p99_us": echo99, "p99_ratio": p99 / echo99, "p99_goal": TAIL, "p99_bound_us": bound_us,
            }));
        }
    }
    Ok(rows)
}
