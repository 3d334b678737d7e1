//! How many calls a second a principal's frameworks may make: Mesos's `--rate_limits`.
//!
//! Mesos holds only frameworks of its older protocol to these limits. Here they hold for the calls of
//! the HTTP API: a call that comes too early waits for its turn, and one that finds `capacity` calls
//! waiting before it is refused with 429 and Mesos's words. A framework without a limit of its own
//! shares the default ones with all others of that kind; without those it is not limited.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Where the file gives no capacity: each waiting call holds a connection and its body.
const DEFAULT_CAPACITY: u64 = 10_000;

/// The limits of all principals.
#[derive(Debug, Default)]
pub struct RateLimits {
    /// `None`: listed, without a rate.
    principals: BTreeMap<String, Option<Arc<Limiter>>>,
    others: Option<Arc<Limiter>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limits: Vec<Limit>,
    #[serde(default)]
    aggregate_default_qps: Option<f64>,
    #[serde(default)]
    aggregate_default_capacity: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    principal: String,
    #[serde(default)]
    qps: Option<f64>,
    #[serde(default)]
    capacity: Option<u64>,
}

#[derive(Debug)]
struct Limiter {
    interval: Duration,
    capacity: u64,
    waiting: AtomicU64,
    /// When the next call may pass.
    next: Mutex<Option<Instant>>,
}

/// Too many calls wait already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Exceeded {
    pub(super) capacity: u64,
}

impl RateLimits {
    /// Reads Mesos's JSON.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with('{') {
            return Err("not rate limits: expecting a JSON object".to_owned());
        }
        let file: File = serde_json::from_str(text).map_err(|error| format!("not rate limits: {error}"))?;
        let mut principals = BTreeMap::new();
        for limit in file.limits {
            let limiter =
                limiter(limit.qps, limit.capacity).map_err(|error| format!("'{}': {error}", limit.principal))?;
            if principals.insert(limit.principal.clone(), limiter).is_some() {
                return Err(format!("'{}' appears twice", limit.principal));
            }
        }
        let others = limiter(file.aggregate_default_qps, file.aggregate_default_capacity)
            .map_err(|error| format!("aggregate_default: {error}"))?;
        Ok(Self { principals, others })
    }

    /// Waits for a call's turn.
    pub(super) async fn pass(&self, principal: Option<&str>) -> Result<(), Exceeded> {
        let own = principal.and_then(|principal| self.principals.get(principal));
        let Some(limiter) = own.unwrap_or(&self.others) else { return Ok(()) };
        let Some((_waiting, wait)) = limiter.enter(Instant::now())? else { return Ok(()) };
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn limiter(qps: Option<f64>, capacity: Option<u64>) -> Result<Option<Arc<Limiter>>, String> {
    let Some(qps) = qps else {
        return if capacity.is_some() { Err("a capacity without qps limits nothing".to_owned()) } else { Ok(None) };
    };
    if !(qps.is_finite() && (1e-3..=1e9).contains(&qps)) {
        return Err(format!("qps {qps}: must be between 0.001 and 1000000000"));
    }
    Ok(Some(Arc::new(Limiter {
        interval: Duration::from_secs_f64(1.0 / qps),
        capacity: capacity.unwrap_or(DEFAULT_CAPACITY),
        waiting: AtomicU64::new(0),
        next: Mutex::new(None),
    })))
}

/// A place in the line; given back when the call has passed or its client is gone.
struct Waiting<'a>(&'a Limiter);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limiter {
    /// `None`: at once.
    fn enter(&self, now: Instant) -> Result<Option<(Waiting<'_>, Duration)>, Exceeded> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        if turn == now {
            *next = Some(now + self.interval);
            return Ok(None);
        }
        if self.waiting.load(Ordering::Relaxed) >= self.capacity {
            return Err(Exceeded { capacity: self.capacity });
        }
        *next = Some(turn + self.interval);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(Some((Waiting(self), turn - now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_pass_at_the_rate_and_beyond_the_capacity_they_are_refused() {
        let limits = RateLimits::parse(r#"{"limits":[{"principal":"a","qps":2,"capacity":2}]}"#).unwrap();
        let (limiter, now) = (limits.principals["a"].clone().unwrap(), Instant::now());
        assert!(limiter.enter(now).unwrap().is_none());
        let (first, wait) = limiter.enter(now).unwrap().unwrap();
        assert_eq!(wait, Duration::from_millis(500));
        let (_second, wait) = limiter.enter(now).unwrap().unwrap();
        assert_eq!(wait, Duration::from_secs(1));
        assert_eq!(limiter.enter(now).err(), Some(Exceeded { capacity: 2 }));
        drop(first);
        assert!(limiter.enter(now).unwrap().is_some());
        assert!(limiter.enter(now + Duration::from_secs(9)).unwrap().is_none());
    }

    #[tokio::test]
    async fn whoever_is_not_listed_shares_the_default() {
        let text = r#"{"limits":[{"principal":"free"}],"aggregate_default_qps":0.001,"aggregate_default_capacity":0}"#;
        let limits = RateLimits::parse(text).unwrap();
        limits.pass(Some("a")).await.unwrap();
        assert_eq!(limits.pass(Some("b")).await, Err(Exceeded { capacity: 0 }));
        assert_eq!(limits.pass(None).await, Err(Exceeded { capacity: 0 }));
        for _ in 0..9 {
            limits.pass(Some("free")).await.unwrap();
        }
        for _ in 0..9 {
            RateLimits::default().pass(Some("a")).await.unwrap();
        }
    }

    #[test]
    fn mistakes_are_named() {
        for bad in [
            "[]",
            r#"{"limits":[{"qps":1}]}"#,
            r#"{"limits":[{"principal":"a","qps":0}]}"#,
            r#"{"limits":[{"principal":"a","capacity":1}]}"#,
            r#"{"limits":[{"principal":"a"},{"principal":"a"}]}"#,
            r#"{"aggregate_default_capacity":1}"#,
            r#"{"limit":[]}"#,
        ] {
            assert!(RateLimits::parse(bad).is_err(), "{bad}");
        }
    }
}
