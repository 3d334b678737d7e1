//! The shape of a document: its keys, and the types of what they hold.

use serde_json::{Map, Value};

/// Types in the place of values. Words in capitals are kept: they are constants of the API. A list becomes the one shape all
/// its elements have; a key that some elements lack ends in `?`.
#[must_use]
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number) => if number.is_f64() { "number" } else { "integer" }.into(),
        Value::String(text) => if is_constant(text) { text.as_str() } else { "string" }.into(),
        Value::Array(items) => list(items),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, item)| (key.clone(), field(key, item))).collect())
        }
    }
}

/// What is in a container's status is the agent's to say.
fn field(key: &str, value: &Value) -> Value {
    if key == "container_status" { "object".into() } else { shape(value) }
}

/// A list of name and value is a dictionary: its names are part of the shape.
fn list(items: &[Value]) -> Value {
    let named = |item: &Value| {
        let fields = item.as_object()?;
        let known = fields.keys().all(|key| key == "name" || key == "value");
        known.then(|| fields.get("name")?.as_str().map(str::to_owned)).flatten()
    };
    if !items.is_empty() && items.iter().all(|item| named(item).is_some()) {
        let pairs =
            items.iter().filter_map(|item| Some((named(item)?, item.get("value").map_or("absent".into(), shape))));
        return Value::Object(pairs.collect());
    }
    let merged = items.iter().map(shape).reduce(|a, b| merge(&a, &b));
    Value::Array(merged.into_iter().collect())
}

/// What two shapes have in common.
fn merge(a: &Value, b: &Value) -> Value {
    match (a, b) {
        _ if a == b => a.clone(),
        (Value::Object(a), Value::Object(b)) => Value::Object(merge_fields(a, b)),
        (Value::Array(a), Value::Array(b)) => {
            Value::Array(a.iter().chain(b).cloned().reduce(|a, b| merge(&a, &b)).into_iter().collect())
        }
        (Value::String(a), Value::String(b)) => {
            let number = |text: &str| text == "number" || text == "integer";
            let text = |text: &str| text == "string" || is_constant(text);
            if number(a) && number(b) {
                "number".into()
            } else if text(a) && text(b) {
                "string".into()
            } else {
                "any".into()
            }
        }
        _ => "any".into(),
    }
}

fn merge_fields(a: &Map<String, Value>, b: &Map<String, Value>) -> Map<String, Value> {
    let bare = |key: &str| key.trim_end_matches('?').to_owned();
    let find = |fields: &Map<String, Value>, key: &str| -> Option<(Value, bool)> {
        let optional = format!("{key}?");
        fields
            .get(key)
            .map(|item| (item.clone(), false))
            .or_else(|| fields.get(&optional).map(|item| (item.clone(), true)))
    };
    let mut merged = Map::new();
    for key in a.keys().chain(b.keys()).map(|key| bare(key)) {
        let (value, optional) = match (find(a, &key), find(b, &key)) {
            (Some((one, left)), Some((other, right))) => (merge(&one, &other), left || right),
            (Some((one, _)), None) | (None, Some((one, _))) => (one, true),
            (None, None) => continue,
        };
        merged.insert(if optional { format!("{key}?") } else { key }, value);
    }
    merged
}

/// `TASK_RUNNING`, `SCALAR`.
fn is_constant(text: &str) -> bool {
    text.len() > 2
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_share_one_shape() {
        let seen =
            json!([{"a": 1, "s": "TASK_LOST"}, {"a": 2.5, "b": true, "s": "TASK_LOST"}, {"a": 1, "s": "TASK_LOST"}]);
        assert_eq!(shape(&seen), json!([{"a": "number", "b?": "bool", "s": "TASK_LOST"}]));
    }

    #[test]
    fn names_of_flags_are_kept() {
        let seen = json!([{"name": "port", "value": "5050"}, {"name": "zk"}]);
        assert_eq!(shape(&seen), json!({"port": "string", "zk": "absent"}));
    }
}
