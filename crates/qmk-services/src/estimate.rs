//! `qmk_estimate`: the physical resources of a program that is not run.

use crate::build_queue::{BuildQueue, in_turn};
use crate::program::invalid;
use qmk_abi::rpc::{ErrorCode, EstimateRequest, Estimated, RpcError};
use qmk_estimate::{ErrorKind, EstimateError, JobParams};
use qmk_qvm::ParseOptions;

/// Estimates, outside of the machine's lock.
pub(crate) fn estimate(
    request: EstimateRequest,
    builds: &BuildQueue,
    tenant: &str,
    max_nodes: Option<usize>,
) -> Result<Estimated, RpcError> {
    let refused = |e: EstimateError| {
        let part = match e.kind {
            ErrorKind::Params => "job_params: ",
            ErrorKind::Counts => "counts: ",
            ErrorKind::NoSolution => "",
        };
        RpcError::new(ErrorCode::InvalidParams, format!("{part}{e}"))
    };
    let job_params = JobParams::parse(&request.job_params).map_err(refused)?;
    let counts = match (request.source, request.counts) {
        (Some(source), None) => {
            let options = ParseOptions { params: request.params, max_nodes, ..ParseOptions::default() };
            in_turn(builds, tenant, source.len(), &options, |options| {
                qmk_estimate::program_counts(&source, request.format, options).map_err(invalid)
            })?
        }
        (None, Some(counts)) => counts,
        _ => {
            let message = "params: give either a program (graph, or source and format) or counts";
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        }
    };
    let report = qmk_estimate::estimate(&counts, &job_params).map_err(refused)?.to_json();
    Ok(Estimated { report })
}
