//! The leniency of Mesos's JSON parser, field by field.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A repeated field: a list, one bare element, or `null` for none.
pub(super) fn many<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            items.into_iter().map(|item| serde_json::from_value(item).map_err(D::Error::custom)).collect()
        }
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            Ok(vec![serde_json::from_value(one).map_err(D::Error::custom)?])
        }
    }
}

/// A repeated enum field: names we do not know are dropped.
pub(super) fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items: Vec<Value> = many(deserializer)?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// An optional enum field: a name we do not know is unset.
pub(super) fn enumeration<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// A double that may be written as a string; `null` is unset.
pub(super) fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        Value::String(text) => {
            text.trim().parse().map(Some).map_err(|_| D::Error::custom(format!("'{text}' is not a number")))
        }
        other @ (Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(D::Error::custom(format!("expecting a number, got {other}")))
        }
    }
}

/// A double that must be there.
pub(super) fn required_double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    double(deserializer)?.ok_or_else(|| D::Error::custom("expecting a number, got null"))
}

/// An unsigned integer that may be written as a string or a whole double.
pub(super) fn required_unsigned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    unsigned(&Value::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("expecting an unsigned integer"))
}

/// A signed integer that may be written as a string; `null` is unset.
pub(super) fn signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => {
            text.trim().parse().map(Some).map_err(|_| D::Error::custom(format!("'{text}' is not an integer")))
        }
        #[allow(clippy::cast_possible_truncation)] // a double beyond i64 saturates, as a bad grace period does later
        Value::Number(number) => Ok(number.as_i64().or_else(|| number.as_f64().map(|double| double as i64))),
        other @ (Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(D::Error::custom(format!("expecting an integer, got {other}")))
        }
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_u64().or_else(|| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked by the filter
            number.as_f64().filter(|double| *double >= 0.0 && double.fract() == 0.0).map(|double| double as u64)
        }),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A boolean that may be written as a string; `null` is unset.
pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value)),
        Value::String(text) if text == "true" => Ok(Some(true)),
        Value::String(text) if text == "false" => Ok(Some(false)),
        other @ (Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(D::Error::custom(format!("expecting a boolean, got {other}")))
        }
    }
}
