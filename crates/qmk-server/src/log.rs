//! The server's log: lines on standard error.

use qmk_services::NOTICES;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

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
    let target = |d: &str| !d.contains(['=', '[']) && d.trim().parse::<LevelFilter>().is_err();
    // Neither would the name of a crate without a level.
    let level = |d: &str| d.rsplit_once('=').is_some_and(|(_, level)| level.trim().is_empty());
    if filter.split(',').any(|d| target(d) || level(d)) {
        return Err(format!("--log {filter:?}: {known}"));
    }
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("--log {filter:?}: {e}; {known}"))?;
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_span_events(FmtSpan::NONE);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let is_notice = |metadata: &tracing::Metadata<'_>| metadata.target() == NOTICES;
    // With hints of the level, an event that is not logged costs nothing.
    let notices = filter_fn(is_notice).with_max_level_hint(LevelFilter::WARN);
    let others = filter_fn(move |metadata| !is_notice(metadata)).with_max_level_hint(LevelFilter::TRACE);
    let lines = lines.with_filter(filter.and(others));
    let started = tracing_subscriber::registry().with(lines).with(Notices.with_filter(notices)).try_init();
    started.map_err(|e| e.to_string())
}

/// Writes what a person must read to standard error, whatever the filter.
struct Notices;

impl<S: Subscriber> Layer<S> for Notices {
    #[allow(clippy::print_stderr, reason = "this is the log's own writer for notices")]
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        eprintln!("qmk: {}", text.0);
    }
}

/// The message of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to memory does not fail.
            _ = write!(self.0, "{value:?}");
        }
    }
}
