//! The figures, for people and for programs.

use std::time::Duration;

use serde::Serialize;

use super::scheduler::Times;

/// One figure, beside what was recorded of Mesos 1.12-dev (-O2) on two cores of another day. Never of the same run.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesos_recorded: Option<f64>,
    /// How many times better than the recorded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// All of them, in order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) figures: Vec<Figure>,
    #[serde(skip)]
    pub(super) quiet: bool,
}

/// Whether more is better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Better {
    More,
    Less,
}

impl Report {
    pub(super) fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.push(what.into(), value, unit, None);
    }

    /// A figure that was recorded of Mesos, too.
    pub(super) fn beside(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        recorded: f64,
        better: Better,
    ) {
        self.push(what.into(), value, unit, Some((recorded, better)));
    }

    fn push(&mut self, what: String, value: f64, unit: &'static str, mesos: Option<(f64, Better)>) {
        let ratio = mesos.map(|(recorded, better)| match better {
            Better::More => value / recorded,
            Better::Less => recorded / value,
        });
        let figure = Figure { what, value, unit, mesos_recorded: mesos.map(|(recorded, _)| recorded), ratio };
        if !self.quiet {
            println!("{}", figure.line());
        }
        self.figures.push(figure);
    }

    /// Median and 99th percentile in milliseconds.
    pub(super) fn spread(&mut self, what: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        for (name, percent) in [("p50", 50), ("p99", 99)] {
            if let Some(time) = at(percent) {
                self.add(format!("{what}, {name} of {}", times.len()), time.as_secs_f64() * 1e3, "ms");
            }
        }
    }

    /// ACCEPT to RUNNING, offer to RUNNING.
    pub(super) fn latencies(&mut self, what: &str, times: &[Times]) {
        let since = |from: fn(&Times) -> std::time::Instant| {
            times.iter().filter_map(|task| Some(task.running?.saturating_duration_since(from(task)))).collect()
        };
        self.spread(&format!("{what}: ACCEPT to RUNNING"), since(|task| task.accepted));
        self.spread(&format!("{what}: offer to RUNNING"), since(|task| task.offered));
    }
}

impl Figure {
    fn line(&self) -> String {
        let value = match self.value.abs() {
            value if value >= 100.0 => format!("{:.0}", self.value),
            value if value >= 1.0 => format!("{:.2}", self.value),
            _ => format!("{:.3}", self.value),
        };
        let mesos = self.mesos_recorded.zip(self.ratio).map_or_else(String::new, |(recorded, ratio)| {
            format!("   (Mesos recorded {recorded}: {ratio:.1} times better here)")
        });
        format!("{:<62} {value:>10} {}{mesos}", self.what, self.unit)
    }
}
