//! What the builder sees: a progress bar for each stage on a terminal, one plain line for each elsewhere.

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Where progress is shown: standard error, so that standard output stays for results.
pub(crate) struct Console {
    terminal: bool,
}

/// A stage under way. Dropped without [`Stage::done`], its bar vanishes and an error follows.
pub(crate) struct Stage {
    bar: ProgressBar,
    what: &'static str,
    started: Instant,
}

impl Console {
    pub(crate) fn new() -> Console {
        Console { terminal: std::io::stderr().is_terminal() }
    }

    /// Begins a stage of so many bytes; 0 when nobody knows.
    pub(crate) fn stage(&self, what: &'static str, bytes: u64) -> Stage {
        let bar = match (self.terminal, bytes) {
            (false, _) => ProgressBar::hidden(),
            (true, 0) => ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed}")),
            (true, _) => ProgressBar::new(bytes).with_style(style("{msg:22} {bar:32} {bytes}/{total_bytes} {eta}")),
        };
        bar.set_message(what);
        if self.terminal {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Stage { bar, what, started: Instant::now() }
    }

    /// Something the builder should know that does not stop the build.
    pub(crate) fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}

impl Stage {
    pub(crate) fn advance(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    pub(crate) fn done(self, result: &str) {
        self.bar.finish_and_clear();
        eprintln!("{:<22} {result} ({:.1} s)", self.what, self.started.elapsed().as_secs_f64());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid")
}

/// A size for people.
pub(crate) fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}
