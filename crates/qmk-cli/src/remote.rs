//! Commands on jobs and resources of a server, one function per command: `submit`, `status`, `wait`, `result`,
//! `cancel`, `telemetry`, `resources`.

use crate::args::{Input, JobArgs, PolicyArgs, ServerArgs, job_name};
use crate::connect::{attach, connect, observe};
use crate::failure::Failure;
use crate::histogram::histogram;
use crate::job::{VerifiedProgram, wait_with_bar};
use crate::output::{print, print_fields, write};
use crate::svg;
use qmk_abi::rpc::json as wire;
use qmk_abi::rpc::{Reply, Request, SessionCreate};
use std::path::Path;
use std::time::Duration;

fn call(server: &ServerArgs, request: Request) -> Result<(), Failure> {
    let reply = connect(server)?.call(request)?;
    print_fields(&wire::result_to_json(&reply), server.json)
}

pub(crate) fn submit(file: &Input, policy: PolicyArgs, server: &ServerArgs) -> Result<(), Failure> {
    let program = VerifiedProgram::read(file)?;
    let client = connect(server)?;
    // A detached session outlives its connection, and with it the job.
    let tenant_id = server.tenant.clone();
    let session = client.session_with(SessionCreate { detached: true, tenant_id, ..SessionCreate::default() })?;
    let job = program.submit(&session, policy)?;
    let r = job.reference();
    if server.json {
        return print_fields(
            &serde_json::json!({
                "job": job_name(r),
                "session_id": r.session_id, "job_id": r.job_id, "estimated_epochs": job.estimated_epochs,
            }),
            true,
        );
    }
    print(&(job_name(r) + "\n"))
}

pub(crate) fn status(job: &JobArgs) -> Result<(), Failure> {
    let mut status = attach(job)?.status()?;
    if !job.server.json {
        // A program may have thousands of events; `qmk result` prints them.
        status.events = None;
    }
    print_fields(&wire::result_to_json(&Reply::Status(status)), job.server.json)
}

pub(crate) fn wait(job: &JobArgs, timeout_ms: Option<u64>) -> Result<(), Failure> {
    let attached = attach(job)?;
    wait_with_bar(&attached, timeout_ms.map(Duration::from_millis), !job.server.json)?;
    let status = attached.status()?;
    if job.server.json {
        return print_fields(&wire::result_to_json(&Reply::Status(status)), true);
    }
    let figures = status.telemetry.unwrap_or_default();
    let state = format!("{:?}", status.state).to_uppercase();
    let job = job_name(&job.job);
    print(&format!(
        "{job}: {state} after {} epochs, {:.1} ms; `qmk result {job}` prints the outcomes\n",
        figures.total_epochs, figures.execution_time_ms
    ))
}

pub(crate) fn result(job: &JobArgs, svg: Option<&Path>) -> Result<(), Failure> {
    let result = attach(job)?.result()?;
    if let Some(path) = svg {
        write(Some(path), &svg::histogram(&job.job.job_id, &result.report))?;
    }
    if job.server.json {
        return print_fields(&serde_json::to_value(&result.report).unwrap_or_default(), true);
    }
    let name = job_name(&job.job);
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
    print_fields(&wire::result_to_json(&Reply::Resources(resources)), server.json)
}
