//! What differs from run to run becomes a name, lists without an order get one, and what is somebody else's goes.

use serde_json::{Map, Value};

use super::binding::Binding;

/// Numbers that are points in time, or name a process or an address.
const NUMBERS: [(&str, &str); 15] = [
    ("timestamp", "${time}"),
    ("registered_time", "${time}"),
    ("reregistered_time", "${time}"),
    ("unregistered_time", "${time}"),
    ("start_time", "${time}"),
    ("elected_time", "${time}"),
    ("build_time", "${time}"),
    ("mtime", "${time}"),
    ("estimated_drain_start_time_seconds", "${time}"),
    ("executor_pid", "${pid}"),
    ("port", "${port}"),
    ("ip", "${ip}"),
    ("heartbeat_port", "${port}"),
    ("uid", "${number}"),
    ("gid", "${number}"),
];

/// Texts that say where and from what the master was built.
const BUILD: [&str; 5] = ["build_date", "build_user", "git_sha", "git_tag", "git_branch"];

/// Nanoseconds above this are a date after 2001, not a duration.
const A_DATE_NANOS: u64 = 1_000_000_000_000_000_000;

/// The value with names for what is different in every run.
pub fn normalise(value: &Value, binding: &mut Binding) -> Value {
    named(value, "", "", binding)
}

/// Leaves out list elements that belong only to frameworks this dialogue has not met.
#[must_use]
pub fn without_strangers(value: &Value, binding: &Binding) -> Value {
    // Messages spell no empty list; the documents before v1 spell all.
    let is_message = value.get("type").is_some_and(Value::is_string);
    ours(value, if is_message { Emptied::LeftOut } else { Emptied::Kept }, binding)
}

/// What becomes of a list with nothing left in it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Emptied {
    LeftOut,
    Kept,
}

fn ours(value: &Value, emptied: Emptied, binding: &Binding) -> Value {
    match value {
        Value::Array(items) => {
            let kept = items.iter().filter(|item| !is_strange(item, binding));
            Value::Array(kept.map(|item| ours(item, emptied, binding)).collect())
        }
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !is_strange(&Value::String((*key).clone()), binding));
            let kept = kept.map(|(key, item)| (key.clone(), item, ours(item, emptied, binding)));
            let was_emptied = |before: &Value, after: &Value| before != after && *after == Value::Array(Vec::new());
            let kept = kept.filter(|(_, before, after)| emptied == Emptied::Kept || !was_emptied(before, after));
            Value::Object(kept.map(|(key, _, after)| (key, after)).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Whether it speaks of frameworks, and of none we know.
#[must_use]
pub fn is_strange(value: &Value, binding: &Binding) -> bool {
    let frameworks = binding.frameworks_in(&own_text(value));
    !frameworks.is_empty() && !frameworks.iter().any(|id| binding.knows(id))
}

/// An agent or a role is nobody's, whatever frameworks it lists; everything else is whose id it carries.
fn own_text(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return value.to_string() };
    if fields.contains_key("weight") || fields.contains_key("agent_info") || fields.contains_key("total_resources") {
        return String::new();
    }
    // An agent of /slaves or /state-summary.
    if fields.contains_key("registered_time") && fields.contains_key("attributes") {
        return String::new();
    }
    value.to_string()
}

fn named(value: &Value, parent: &str, key: &str, binding: &mut Binding) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.clone();
            sort_before(&mut items, binding);
            let mut items: Vec<Value> = items.iter().map(|item| named(item, parent, key, binding)).collect();
            sort_after(&mut items);
            Value::Array(items)
        }
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(name, _)| !(is_executors(fields) && *name == "executor_id"))
                .map(|(name, item)| {
                    if name == "container_status" {
                        return (name.clone(), "${container_status}".into());
                    }
                    let item = named(item, key, name, binding);
                    // Some documents are keyed by id.
                    (binding.abstracted(name, "uuid"), item)
                })
                .collect(),
        ),
        Value::Number(number) => {
            if key == "nanoseconds" && number.as_u64().is_some_and(|nanos| nanos > A_DATE_NANOS) {
                return "${time}".into();
            }
            match NUMBERS.iter().find(|(name, _)| *name == key) {
                // Zero says that it has not happened.
                Some((_, kind)) if number.as_f64() != Some(0.0) => (*kind).into(),
                Some(_) | None => value.clone(),
            }
        }
        Value::String(text) => named_text(text, parent, key, binding).into(),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

fn named_text(text: &str, parent: &str, key: &str, binding: &mut Binding) -> String {
    if BUILD.contains(&key) {
        return format!("${{{key}}}");
    }
    let bytes = text.len() == 24 && text.ends_with("==");
    if bytes && (key.ends_with("uuid") || parent == "uuid") {
        return binding.name("update", text);
    }
    if key == "hostname" && !text.is_empty() && !text.ends_with(".example") {
        return binding.kind("host", text);
    }
    // Addresses that scenarios invent are of this network.
    if (key == "ip" || key == "ip_address") && !text.starts_with("10.9.") {
        return binding.kind("ip", text);
    }
    let class = match (parent, key) {
        ("container_id", "value") => "container",
        (_, "mesos-stream-id") => "stream",
        (_, "id") => "master",
        _ => "uuid",
    };
    let text = binding.abstracted(text, class);
    if key == "message" || key.is_empty() { resources_sorted(&text) } else { text }
}

/// In `Total resources A; B required by .. more than available C; D` and `A; B does not contain C; D` the lists are sets.
fn resources_sorted(text: &str) -> String {
    let sorted = |list: &str| {
        let mut parts: Vec<&str> = list.split("; ").collect();
        parts.sort_unstable();
        parts.join("; ")
    };
    let (before, rest) = match text.split_once(" operation: ") {
        Some((before, rest)) => (format!("{before} operation: "), rest),
        None => (String::new(), text),
    };
    if let Some((all, part)) = rest.split_once(" does not contain ") {
        return format!("{before}{} does not contain {}", sorted(all), sorted(part));
    }
    let parts = rest.rsplit_once(" more than available ").and_then(|(needed, available)| {
        let (total, required) = needed.strip_prefix("Total resources ")?.split_once(" required by ")?;
        Some((total, required, available))
    });
    match parts {
        Some((total, required, available)) => {
            let (total, available) = (sorted(total), sorted(available));
            format!("Total resources {total} required by {required} more than available {available}")
        }
        None => text.to_owned(),
    }
}

/// A status of an executor says what agent and executor make of it; a master passes it on.
fn is_executors(fields: &Map<String, Value>) -> bool {
    fields.contains_key("container_status") && fields.contains_key("state")
}

/// Agents, and things that carry an id a client chose, come in no order: sorted before new ids are named.
fn sort_before(items: &mut [Value], binding: &Binding) {
    let agent =
        |item: &Value| item.get("agent_info").is_some() || item.get("pid").is_some() && item.get("resources").is_some();
    if items.len() > 1 && items.iter().all(agent) {
        items.sort_by_cached_key(|item| named(item, "", "", &mut binding.clone()).to_string());
        return;
    }
    let chosen = |item: &Value| -> Option<String> {
        let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if item.get("task_id").is_some() && item.get("state").is_some() {
            return text("/task_id/value");
        }
        text("/executor_info/executor_id/value").or_else(|| text("/framework_info/name"))
    };
    if items.iter().all(|item| chosen(item).is_some()) {
        items.sort_by_key(chosen);
    }
}

/// Resources, roles, weights and a framework's offers are sets: sorted by their text after ids are named.
fn sort_after(items: &mut [Value]) {
    let is_set = |item: &Value| {
        let has = |key: &str| item.get(key).is_some();
        has("name") && (has("scalar") || has("ranges") || has("set") || has("weight"))
            || has("role") && (has("weight") || has("limits") || has("guarantees") || has("limit"))
            || has("id")
                && has("framework_id")
                && has("resources")
                && (has("slave_id") || has("agent_id") && has("url"))
    };
    if items.iter().all(is_set) {
        items.sort_by_key(Value::to_string);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_kinds_and_durations_stay() {
        let mut binding = Binding::default();
        let seen = json!({"timestamp": 1.5, "unregistered_time": 0.0, "a": {"nanoseconds": 1_700_000_000_000_000_000_u64},
            "b": {"nanoseconds": 5}});
        let expected = json!({"timestamp": "${time}", "unregistered_time": 0.0, "a": {"nanoseconds": "${time}"},
            "b": {"nanoseconds": 5}});
        assert_eq!(normalise(&seen, &mut binding), expected);
    }

    #[test]
    fn other_peoples_frameworks_are_left_out() {
        let mut binding = Binding::default();
        let id = |n: u8| format!("0bd43a4e-26b4-4a0a-9b75-1f3b0b4e3a10-000{n}");
        binding.abstracted(&id(1), "uuid");
        let seen = json!({"frameworks": [{"id": id(1)}, {"id": id(2)}], "roles": [{"name": "*", "weight": 1.0, "frameworks": [id(2)]}]});
        let left = json!({"frameworks": [{"id": id(1)}], "roles": [{"name": "*", "weight": 1.0, "frameworks": []}]});
        assert_eq!(without_strangers(&seen, &binding), left);
    }

    #[test]
    fn resources_are_a_set() {
        let mut binding = Binding::default();
        let (cpus, mem) =
            (json!({"name": "cpus", "scalar": {"value": 1.0}}), json!({"name": "mem", "scalar": {"value": 2.0}}));
        let one = normalise(&json!([cpus, mem]), &mut binding);
        assert_eq!(one, normalise(&json!([mem, cpus]), &mut binding));
    }
}
