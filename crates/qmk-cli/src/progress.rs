//! Progress bars.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Instant;

/// A progress bar with a template of `indicatif`.
pub(crate) fn bar(length: u64, template: &str, target: ProgressDrawTarget) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::with_draw_target(Some(length), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar that appears on a terminal when work takes longer than half a second, and disappears when it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    pub(crate) fn new(length: u64, template: &str) -> Self {
        let bar = bar(length, template, ProgressDrawTarget::stderr());
        Progress { bar, began: Instant::now() }
    }

    pub(crate) fn at(&self, position: u64, message: impl FnOnce() -> String) {
        if self.began.elapsed().as_millis() > 500 {
            self.bar.set_message(message());
            self.bar.set_position(position);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
