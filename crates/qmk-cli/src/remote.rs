//! Commands that speak to a server.

use crate::failure::Failure;
use crate::run::{Checked, histogram, watch};
use crate::{Input, JobArgs, PolicyArgs, ServerArgs, print, svg};
use qmk_abi::rpc::{JobRef, Reply, Request, SessionCreate};
use qmk_client::{Client, Job, Session, default_socket, wire};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long to go on asking a server that was asked too often.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn connect(server: &ServerArgs) -> Result<Client, Failure> {
    let path = server.connect.clone().unwrap_or_else(|| default_socket().to_string_lossy().into_owned());
    client(&path, server.token.as_deref())
}

/// A connection under the token that is given, if any.
pub(crate) fn client(socket: &str, token: Option<&Path>) -> Result<Client, Failure> {
    let token = crate::token::given(token)?;
    let client = Client::connect(socket)?.patient(PATIENCE);
    if let Some(token) = token {
        client.authenticate(&token)?;
    }
    Ok(client)
}

/// A session to look around with.
pub(crate) fn observe(server: &ServerArgs) -> Result<Session, Failure> {
    Ok(connect(server)?.observe(server.tenant.as_deref())?)
}

fn attach(job: &JobArgs) -> Result<Job, Failure> {
    Ok(Job::attach(&connect(&job.server)?, job.job.clone()))
}

/// The name that `submit` prints.
pub(crate) fn name(job: &JobRef) -> String {
    format!("{}/{}", job.session_id, job.job_id)
}

/// One JSON document, or each of its members on a line.
pub(crate) fn show(v: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print(&(v.to_string() + "\n"));
    }
    let mut text = String::new();
    lines("", v, &mut text);
    print(&text)
}

fn lines(path: &str, v: &Value, out: &mut String) {
    match v {
        Value::Object(m) => {
            for (k, v) in m {
                lines(&if path.is_empty() { k.clone() } else { format!("{path}.{k}") }, v, out);
            }
        }
        Value::String(s) => *out += &format!("{path}: {s}\n"),
        _ => *out += &format!("{path}: {v}\n"),
    }
}

fn call(server: &ServerArgs, request: Request) -> Result<(), Failure> {
    let reply = connect(server)?.call(request)?;
    show(&wire::result_to_json(&reply), server.json)
}

pub(crate) fn submit(file: &Input, policy: PolicyArgs, server: &ServerArgs) -> Result<(), Failure> {
    let checked = Checked::read(file)?;
    let client = connect(server)?;
    // The job outlives this command.
    let tenant_id = server.tenant.clone();
    let session = client.session_with(SessionCreate { detached: true, tenant_id, ..SessionCreate::default() })?;
    let job = checked.submit(&session, policy)?;
    let r = job.reference();
    if server.json {
        return show(
            &serde_json::json!({
                "job": name(r),
                "session_id": r.session_id, "job_id": r.job_id, "estimated_epochs": job.estimated_epochs,
            }),
            true,
        );
    }
    print(&(name(r) + "\n"))
}

pub(crate) fn status(job: &JobArgs) -> Result<(), Failure> {
    let mut status = attach(job)?.status()?;
    if !job.server.json {
        // There may be thousands; `result` has them.
        status.events = None;
    }
    show(&wire::result_to_json(&Reply::Status(status)), job.server.json)
}

pub(crate) fn wait(job: &JobArgs, timeout_ms: Option<u64>) -> Result<(), Failure> {
    let attached = attach(job)?;
    watch(&attached, timeout_ms.map(Duration::from_millis), !job.server.json)?;
    let status = attached.status()?;
    if job.server.json {
        return show(&wire::result_to_json(&Reply::Status(status)), true);
    }
    let figures = status.telemetry.unwrap_or_default();
    let state = format!("{:?}", status.state).to_uppercase();
    let job = name(&job.job);
    print(&format!(
        "{job}: {state} after {} epochs, {:.1} ms; `qmk result {job}` prints the outcomes\n",
        figures.total_epochs, figures.execution_time_ms
    ))
}

pub(crate) fn result(job: &JobArgs, svg: Option<&Path>) -> Result<(), Failure> {
    let result = attach(job)?.result()?;
    if let Some(path) = svg {
        crate::write(Some(path), &svg::histogram(&job.job.job_id, &result.report))?;
    }
    if job.server.json {
        return show(&serde_json::to_value(&result.report).unwrap_or_default(), true);
    }
    let name = name(&job.job);
    for w in &result.report.warnings {
        eprintln!("{name}: warning: {w}");
    }
    print(&histogram(&name, &result.report))
}

pub(crate) fn cancel(job: &JobArgs) -> Result<(), Failure> {
    call(&job.server, Request::JobCancel(job.job.clone()))
}

pub(crate) fn telemetry(job: &JobArgs) -> Result<(), Failure> {
    call(&job.server, Request::Telemetry(job.job.clone()))
}

pub(crate) fn resources(server: &ServerArgs) -> Result<(), Failure> {
    let resources = observe(server)?.resources()?;
    show(&wire::result_to_json(&Reply::Resources(resources)), server.json)
}
