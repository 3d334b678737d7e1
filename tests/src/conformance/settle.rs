//! What a dialogue leaves behind: its frameworks are torn down, and the agents left idle for the next.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::binding::Binding;
use crate::http;

/// Executors need a moment to be gone from the books.
const IDLE: Duration = Duration::from_secs(10);

const ANSWER: Duration = Duration::from_secs(10);

/// Removes the frameworks of a dialogue and waits until no agent has anything in use or on offer.
pub fn settle(url: &str, binding: &Binding) -> Result<()> {
    for framework in binding.class("framework") {
        let call = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": framework}}});
        // It may be gone already, which is answered 400.
        http::post_json(&format!("{url}/api/v1"), &call.to_string(), ANSWER)?;
    }
    let deadline = Instant::now() + IDLE;
    loop {
        let agents = http::get(&format!("{url}/slaves"), ANSWER)?.success()?.json()?;
        let busy: Vec<&Value> =
            agents["slaves"].as_array().into_iter().flatten().filter(|agent| is_busy(agent)).collect();
        if busy.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "agents are still in use: {}", busy[0]);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_busy(agent: &Value) -> bool {
    let some = |key: &str| ["cpus", "mem", "disk"].iter().any(|name| agent[key][name].as_f64().unwrap_or(0.0) > 0.0);
    agent["active"] == true && (some("used_resources") || some("offered_resources"))
}
