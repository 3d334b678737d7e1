//! Where what came is not what was recorded.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// More than these of one dialogue only repeat the first.
const MOST: usize = 500;

/// One place where two answers differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Which step, from 1.
    pub step: usize,
    /// Where in it: `body/slaves/0/port`.
    pub at: String,
    /// As recorded.
    pub expected: String,
    /// As it came.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} {}: expected {}, got {}", self.step, self.at, self.expected, self.got)
    }
}

/// All places where `got` is not `expected`.
#[must_use]
pub fn differences(step: usize, at: &str, expected: &Value, got: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(step, at, expected, got, &mut found);
    found.truncate(MOST);
    found
}

fn compare(step: usize, at: &str, expected: &Value, got: &Value, found: &mut Vec<Difference>) {
    let mut differ = |at: String, expected: String, got: String| found.push(Difference { step, at, expected, got });
    match (expected, got) {
        _ if expected == got => {}
        (Value::Object(one), Value::Object(other)) => {
            let bare = |key: &String| key.trim_end_matches('?').to_owned();
            let keys: BTreeSet<String> = one.keys().chain(other.keys()).map(bare).collect();
            for key in keys {
                let optional = format!("{key}?");
                let at = format!("{at}/{key}");
                let here = one.get(&key).or_else(|| one.get(&optional));
                let there = other.get(&key).or_else(|| other.get(&optional));
                match (here, there) {
                    (Some(here), Some(there)) => compare(step, &at, here, there, found),
                    // One had frameworks of other dialogues in it, which were left out.
                    (Some(one), None) | (None, Some(one)) if is_emptied(&key, one) => {}
                    // Some elements lacked it on the recorded master too.
                    (Some(_), None) if one.contains_key(&optional) => {}
                    (Some(here), None) => {
                        found.push(Difference { step, at, expected: short(here), got: "nothing".into() })
                    }
                    (None, Some(there)) => {
                        found.push(Difference { step, at, expected: "nothing".into(), got: short(there) });
                    }
                    (None, None) => {}
                }
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            if one.len() != other.len() {
                differ(format!("{at}/length"), one.len().to_string(), format!("{}: {}", other.len(), short(got)));
            }
            for (index, (here, there)) in one.iter().zip(other).enumerate() {
                compare(step, &format!("{at}/{index}"), here, there, found);
            }
        }
        _ => differ(at.to_owned(), short(expected), short(got)),
    }
}

/// Lists that the whole cluster shares, in messages that spell them even when they are empty.
fn is_emptied(key: &str, value: &Value) -> bool {
    const SHARED: [&str; 6] =
        ["tasks", "unreachable_tasks", "completed_tasks", "executors", "frameworks", "completed_frameworks"];
    SHARED.contains(&key) && value.as_array().is_some_and(Vec::is_empty)
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 400 { text } else { format!("{}…", text.chars().take(400).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shared_list_that_was_emptied_may_be_missing() {
        assert!(differences(1, "", &json!({"get_tasks": {}}), &json!({"get_tasks": {"tasks": []}})).is_empty());
        assert!(!differences(1, "", &json!({}), &json!({"tasks": [1]})).is_empty());
        assert!(!differences(1, "", &json!({}), &json!({"offers": []})).is_empty());
    }

    #[test]
    fn a_missing_key_is_named_and_an_optional_one_may_be_missing() {
        let found = differences(3, "body", &json!({"a": 1, "b": {"c": 2}, "d?": 1}), &json!({"b": {"c": 3}, "e": 0}));
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "step 3 body/a: expected 1, got nothing",
                "step 3 body/b/c: expected 2, got 3",
                "step 3 body/e: expected nothing, got 0",
            ]
        );
    }
}
