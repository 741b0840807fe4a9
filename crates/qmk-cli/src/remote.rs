//! Commands that speak to a server.

use crate::failure::Failure;
use crate::run::{Checked, histogram, watch};
use crate::{Input, JobArgs, PolicyArgs, ServerArgs, print};
use qmk_abi::rpc::{JobRef, JobStatus, Reply, Request, SessionCreate};
use qmk_client::{Client, Job, default_socket, wire};
use serde_json::Value;
use std::time::Duration;

fn connect(server: &ServerArgs) -> Result<Client, Failure> {
    let path = server.connect.clone().unwrap_or_else(|| default_socket().to_string_lossy().into_owned());
    Ok(Client::connect(&path)?)
}

fn reference(job: &JobArgs) -> Result<JobRef, Failure> {
    let (session, id) = job.job.split_once('/').ok_or_else(|| {
        Failure::new(2, "USAGE", format!("{:?} is not a job; qmk submit prints one, SESSION/JOB", job.job))
    })?;
    Ok(JobRef { session_id: session.into(), job_id: id.into() })
}

fn attach(job: &JobArgs) -> Result<Job, Failure> {
    let reference = reference(job)?;
    Ok(Job::attach(&connect(&job.server)?, reference))
}

/// One JSON document, or each of its members on a line.
fn show(v: &Value, json: bool) -> Result<(), Failure> {
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
    let session = client.session_with(SessionCreate { detached: true, ..SessionCreate::default() })?;
    let job = checked.submit(&session, policy)?;
    let r = job.reference();
    if server.json {
        return show(
            &serde_json::json!({
                "job": format!("{}/{}", r.session_id, r.job_id),
                "session_id": r.session_id, "job_id": r.job_id, "estimated_epochs": job.estimated_epochs,
            }),
            true,
        );
    }
    print(&format!("{}/{}\n", r.session_id, r.job_id))
}

fn show_status(status: JobStatus, json: bool) -> Result<(), Failure> {
    show(&wire::result_to_json(&Reply::Status(status)), json)
}

pub(crate) fn status(job: &JobArgs) -> Result<(), Failure> {
    show_status(attach(job)?.status()?, job.server.json)
}

pub(crate) fn wait(job: &JobArgs, timeout_ms: Option<u64>) -> Result<(), Failure> {
    let attached = attach(job)?;
    watch(&attached, timeout_ms.map(Duration::from_millis))?;
    show_status(attached.status()?, job.server.json)
}

pub(crate) fn result(job: &JobArgs) -> Result<(), Failure> {
    let result = attach(job)?.result()?;
    if job.server.json {
        return show(&serde_json::to_value(&result.report).unwrap_or_default(), true);
    }
    print(&histogram(&job.job, &result.report))
}

pub(crate) fn cancel(job: &JobArgs) -> Result<(), Failure> {
    call(&job.server, Request::JobCancel(reference(job)?))
}

pub(crate) fn telemetry(job: &JobArgs) -> Result<(), Failure> {
    call(&job.server, Request::Telemetry(reference(job)?))
}

pub(crate) fn resources(server: &ServerArgs) -> Result<(), Failure> {
    let client = connect(server)?;
    let resources = client.session(&[])?.resources()?;
    show(&wire::result_to_json(&Reply::Resources(resources)), server.json)
}
