//! The server's log: lines on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts to log what passes a filter: a level (`info`), or directives such as `qmk_server=debug,qmk_services=info`.
///
/// # Errors
/// If the filter cannot be understood.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let known = "expected off, error, warn, info, debug or trace, or directives such as qmk_services=debug,info";
    // A word alone would be taken for the name of a crate, and nothing would be logged.
    let target = |d: &str| !d.contains(['=', '[']) && d.trim().parse::<tracing::level_filters::LevelFilter>().is_err();
    // Neither would the name of a crate without a level.
    let level = |d: &str| d.rsplit_once('=').is_some_and(|(_, level)| level.trim().is_empty());
    if filter.split(',').any(|d| target(d) || level(d)) {
        return Err(format!("--log {filter:?}: {known}"));
    }
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("--log {filter:?}: {e}; {known}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_span_events(FmtSpan::NONE);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| e.to_string())
}
