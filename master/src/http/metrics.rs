//! Metrics: Mesos's names as a JSON object, and the same for Prometheus.

mod measure;
mod names;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::legacy::Asked;
use super::operator::stream::Watchers;
use super::render::json::Json;
use super::render::reads::Reads;
use super::router::Api;
use super::{overloaded, text};
use crate::driver::Message;

pub(crate) use measure::{Measured, measure, own};

/// `/metrics/snapshot`.
pub(super) async fn snapshot(
    State(api): State<Api>,
    Extension(reads): Extension<Arc<Reads>>,
    Extension(watchers): Extension<Arc<Watchers>>,
    asked: Asked,
) -> Response {
    if let Some(timeout) = asked.query.get("timeout")
        && let Err(error) = parse_duration(timeout)
    {
        return text(StatusCode::BAD_REQUEST, format!("Invalid timeout '{timeout}': {error}.\n"));
    }
    match all(&api, &reads, &watchers).await {
        Ok(metrics) => {
            let mut json = Json::default();
            json.object(|json| {
                for (name, value) in &metrics {
                    json.key_of(name).double(*value);
                }
            });
            asked.wish.answer(json.into_bytes())
        }
        Err(response) => response,
    }
}

/// `/metrics`, for Prometheus.
pub(super) async fn prometheus(
    State(api): State<Api>,
    Extension(reads): Extension<Arc<Reads>>,
    Extension(watchers): Extension<Arc<Watchers>>,
) -> Response {
    match all(&api, &reads, &watchers).await {
        Ok(mut metrics) => {
            metrics.extend(own());
            let mut response = Response::new(Body::from(exposition(&metrics)));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(response) => response,
    }
}

/// Everything that is measured, now.
pub(super) async fn all(api: &Api, reads: &Reads, watchers: &Watchers) -> Result<BTreeMap<String, f64>, Response> {
    let view = api.driver.ask(Message::View).await.map_err(overloaded)?;
    let measured =
        Measured { started_ms: api.facts.started_ms, shared_reads: reads.shared(), watchers: watchers.count() as u64 };
    // All tasks are counted: not on a thread that others wait for.
    let counting = tokio::task::spawn_blocking(move || measure(&view, &measured));
    counting.await.map_err(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "measuring failed"))
}

/// Mesos's durations: a number and a unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("ms", 1e-3),
        ("secs", 1.0),
        ("mins", 60.0),
        ("hrs", 3600.0),
        ("days", 86_400.0),
        ("weeks", 604_800.0),
    ];
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let Some((number, unit)) = digits.map(|at| text.split_at(at)) else {
        return Err(format!("Invalid duration '{text}'"));
    };
    let Ok(number) = number.parse::<f64>() else { return Err(format!("Failed to convert '{number}' to number")) };
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let seconds =
        known.map(|(_, seconds)| number * seconds).ok_or_else(|| format!("Unknown duration unit '{unit}'"))?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("Invalid duration '{text}'"))
}

/// `master/tasks_running` becomes `mesos_master_tasks_running`, ours `mesolith_…`.
fn exposition(metrics: &BTreeMap<String, f64>) -> String {
    let mut written: BTreeMap<String, (bool, f64)> = BTreeMap::new();
    for (name, value) in metrics {
        let flat: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let prefix = if flat.starts_with("mesolith_") { "" } else { "mesos_" };
        // Two names may become one (`a/b` and `a_b` as roles): the later one is shown.
        written.insert(format!("{prefix}{flat}"), (names::is_counter(name), *value));
    }
    written.into_iter().fold(String::new(), |mut text, (name, (counts, value))| {
        let kind = if counts { "counter" } else { "gauge" };
        writeln!(text, "# TYPE {name} {kind}\n{name} {value}").expect("a String takes every write");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_prometheus_names() {
        let metrics = BTreeMap::from([("master/tasks_running".to_owned(), 2.0), ("mesolith/calls".to_owned(), 3.0)]);
        let text = exposition(&metrics);
        assert!(text.contains("# TYPE mesos_master_tasks_running gauge\nmesos_master_tasks_running 2\n"));
        assert!(text.contains("# TYPE mesolith_calls counter\nmesolith_calls 3\n"));
    }

    #[test]
    fn durations_are_mesoss() {
        assert_eq!(parse_duration("5secs"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("1.5mins"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("abc").unwrap_err(), "Failed to convert '' to number");
        assert_eq!(parse_duration("5").unwrap_err(), "Invalid duration '5'");
        assert!(parse_duration("5fortnights").is_err() && parse_duration("99999999999999999999weeks").is_err());
    }
}
