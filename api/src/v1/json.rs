//! Mesos's mapping between messages and JSON, value by value; `build/json.rs` strings it together by field.
//!
//! Written: fields by their proto names in the order they are declared, enums by name, bytes in
//! base64, 64-bit numbers as numbers, nothing that is unset or empty unless it declares a default.
//! Read as leniently as Mesos reads: `null` is unset, unknown fields are ignored, a bare element
//! stands for a list of one, numbers and booleans may be strings, an enum name nobody knows is
//! unset unless the field is required. Other formats than JSON carry the protobuf bytes.
#![allow(clippy::wildcard_enum_match_arm)] // the kinds of JSON are all there are

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Error as _, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

/// Why JSON is not the message it should be, in Mesos's words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JsonError {
    /// The whole is not an object.
    #[error("Expecting a JSON object")]
    NotAnObject,
    /// A value of the wrong kind.
    #[error("Not expecting a JSON {found} for field '{field}'")]
    Unexpected {
        /// What it is.
        found: &'static str,
        /// Where.
        field: &'static str,
    },
    /// A required enum whose name nobody knows.
    #[error("Failed to find enum for '{0}'")]
    UnknownName(String),
    /// A string that is no number (or boolean) where one may be written as a string.
    #[error("Failed to parse '{text}' as a JSON {what} for field '{field}': syntax error")]
    Unreadable {
        /// What was written.
        text: String,
        /// `number` or `boolean`.
        what: &'static str,
        /// Where.
        field: &'static str,
    },
    /// Bytes that are not base64.
    #[error("Failed to base64 decode bytes field '{field}': {reason}")]
    Base64 {
        /// Where.
        field: &'static str,
        /// Which character.
        reason: String,
    },
}

/// A message, field by field: generated.
pub(crate) trait Fields {
    /// Takes the field of that name from JSON; a name that is no field is ignored.
    fn set(&mut self, name: &str, given: Value) -> Result<(), JsonError>;

    /// Writes every field that is set, or declares a default.
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// An enum that JSON spells by name.
pub(crate) trait Named: TryFrom<i32> + Into<i32> {
    fn name(&self) -> &'static str;
    fn from_name(name: &str) -> Option<Self>;
}

/// Reads a message from JSON, without looking whether a required field is missing.
pub(crate) fn read<M: Fields + Default>(value: Value) -> Result<M, JsonError> {
    let Value::Object(fields) = value else { return Err(JsonError::NotAnObject) };
    let mut message = M::default();
    for (name, given) in fields {
        message.set(&name, given)?;
    }
    Ok(message)
}

pub(super) fn serialize<M: Fields + prost::Message, S: Serializer>(
    message: &M,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if !serializer.is_human_readable() {
        return serializer.serialize_bytes(&message.encode_to_vec());
    }
    let mut map = serializer.serialize_map(None)?;
    message.write(&mut map)?;
    map.end()
}

pub(super) fn deserialize<'de, M, D>(deserializer: D) -> Result<M, D::Error>
where
    M: Fields + prost::Message + Default,
    D: Deserializer<'de>,
{
    if deserializer.is_human_readable() {
        return read(Value::deserialize(deserializer)?).map_err(D::Error::custom);
    }
    struct Bytes<M>(PhantomData<M>);
    impl<M: prost::Message + Default> Visitor<'_> for Bytes<M> {
        type Value = M;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the protobuf bytes of a message")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<M, E> {
            M::decode(bytes).map_err(E::custom)
        }
    }
    deserializer.deserialize_bytes(Bytes(PhantomData))
}

// ---- reading: `None` is unset

fn unexpected<T>(given: &Value, field: &'static str) -> Result<Option<T>, JsonError> {
    let found = match given {
        Value::Null => return Ok(None),
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Err(JsonError::Unexpected { found, field })
}

pub(super) fn text(field: &'static str, given: Value) -> Result<Option<String>, JsonError> {
    match given {
        Value::String(text) => Ok(Some(text)),
        other => unexpected(&other, field),
    }
}

/// Mesos's decoder skips white space and stops at the first `=`.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn bytes(field: &'static str, given: Value) -> Result<Option<Vec<u8>>, JsonError> {
    let Value::String(text) = given else { return unexpected(&given, field) };
    let bytes: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let end = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    let reason = |error: base64::DecodeError| match error {
        base64::DecodeError::InvalidByte(_, byte) => format!("Invalid character '{}'", char::from(byte)),
        other => other.to_string(),
    };
    LENIENT.decode(&bytes[..end]).map(Some).map_err(|error| JsonError::Base64 { field, reason: reason(error) })
}

pub(super) fn boolean(field: &'static str, given: Value) -> Result<Option<bool>, JsonError> {
    match given {
        Value::Bool(value) => Ok(Some(value)),
        Value::String(text) => match text.trim() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(JsonError::Unreadable { text, what: "boolean", field }),
        },
        other => unexpected(&other, field),
    }
}

fn number(field: &'static str, given: Value) -> Result<Option<Number>, JsonError> {
    match given {
        Value::Number(number) => Ok(Some(number)),
        Value::String(text) => match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(JsonError::Unreadable { text, what: "number", field }),
        },
        other => unexpected(&other, field),
    }
}

pub(super) fn double(field: &'static str, given: Value) -> Result<Option<f64>, JsonError> {
    match given.as_str() {
        Some("Infinity") => Ok(Some(f64::INFINITY)),
        Some("-Infinity") => Ok(Some(f64::NEG_INFINITY)),
        _ => Ok(number(field, given)?.and_then(|number| number.as_f64())),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // Mesos casts; floats saturate, integers wrap
pub(super) fn int64(field: &'static str, given: Value) -> Result<Option<i64>, JsonError> {
    Ok(number(field, given)?.map(|number| match (number.as_i64(), number.as_u64()) {
        (Some(value), _) => value,
        (None, Some(value)) => value as i64,
        (None, None) => number.as_f64().unwrap_or_default() as i64,
    }))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // as in `int64`
pub(super) fn uint64(field: &'static str, given: Value) -> Result<Option<u64>, JsonError> {
    Ok(number(field, given)?.map(|number| match (number.as_u64(), number.as_i64()) {
        (Some(value), _) => value,
        (None, Some(value)) => value as u64,
        (None, None) => number.as_f64().unwrap_or_default() as u64,
    }))
}

#[allow(clippy::cast_possible_truncation)] // as in `int64`
pub(super) fn int32(field: &'static str, given: Value) -> Result<Option<i32>, JsonError> {
    Ok(int64(field, given)?.map(|value| value as i32))
}

#[allow(clippy::cast_possible_truncation)] // as in `int64`
pub(super) fn uint32(field: &'static str, given: Value) -> Result<Option<u32>, JsonError> {
    Ok(uint64(field, given)?.map(|value| value as u32))
}

pub(super) fn enumeration<E: Named>(field: &'static str, given: Value) -> Result<Option<i32>, JsonError> {
    match given {
        Value::String(name) => Ok(E::from_name(&name).map(Into::into)),
        other => unexpected(&other, field),
    }
}

pub(super) fn required_enumeration<E: Named>(field: &'static str, given: Value) -> Result<Option<i32>, JsonError> {
    match given {
        Value::String(name) => match E::from_name(&name) {
            Some(value) => Ok(Some(value.into())),
            None => Err(JsonError::UnknownName(name)),
        },
        other => unexpected(&other, field),
    }
}

pub(super) fn message<M: Fields + Default>(field: &'static str, given: Value) -> Result<Option<M>, JsonError> {
    match given {
        Value::Object(_) => read(given).map(Some),
        other => unexpected(&other, field),
    }
}

pub(super) fn id<I: From<String>>(field: &'static str, given: Value) -> Result<Option<I>, JsonError> {
    match given {
        Value::Object(mut fields) => {
            let value = fields.remove("value").map(|given| text("value", given)).transpose()?.flatten();
            Ok(Some(value.unwrap_or_default().into()))
        }
        other => unexpected(&other, field),
    }
}

/// Every element of a list; a bare one is a list of one. As deep as serde_json lets lists nest.
pub(super) fn each(given: Value, add: &mut impl FnMut(Value) -> Result<(), JsonError>) -> Result<(), JsonError> {
    match given {
        Value::Array(items) => {
            for item in items {
                // Through a reference to a trait object, or the recursion would be over ever new types.
                each_dyn(item, add)?;
            }
            Ok(())
        }
        one => add(one),
    }
}

fn each_dyn(given: Value, add: &mut dyn FnMut(Value) -> Result<(), JsonError>) -> Result<(), JsonError> {
    match given {
        Value::Array(items) => items.into_iter().try_for_each(|item| each_dyn(item, add)),
        one => add(one),
    }
}

pub(super) fn map(
    field: &'static str,
    given: Value,
    mut add: impl FnMut(String, Value) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    match given {
        Value::Object(entries) => entries.into_iter().try_for_each(|(key, value)| add(key, value)),
        other => unexpected::<()>(&other, field).map(|_| ()),
    }
}

// ---- writing

/// Bytes in standard base64 with padding.
pub(super) struct Base64<'a>(pub(super) &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&base64::display::Base64Display::new(self.0, &base64::engine::general_purpose::STANDARD))
    }
}

/// A double; JSON has no number for infinity, Mesos reads the word.
pub(super) struct Double(pub(super) f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            f64::INFINITY => serializer.serialize_str("Infinity"),
            f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
            value => serializer.serialize_f64(value),
        }
    }
}

/// An enum by name.
pub(super) struct Name<E>(i32, PhantomData<E>);

impl<E: Named> Name<E> {
    pub(super) const fn new(value: i32) -> Self {
        Self(value, PhantomData)
    }

    pub(super) fn is_known(&self) -> bool {
        E::try_from(self.0).is_ok()
    }
}

impl<E: Named> Serialize for Name<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match E::try_from(self.0) {
            Ok(value) => serializer.serialize_str(value.name()),
            Err(_) => serializer.serialize_none(),
        }
    }
}

/// Enums by name, without those nobody knows.
pub(super) struct Names<'a, E>(&'a [i32], PhantomData<E>);

impl<'a, E> Names<'a, E> {
    pub(super) const fn new(values: &'a [i32]) -> Self {
        Self(values, PhantomData)
    }
}

impl<E: Named> Serialize for Names<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().filter_map(|value| E::try_from(*value).ok()).map(|value| value.name()))
    }
}

/// An id: `{"value": …}`.
pub(super) struct Id<'a>(pub(super) &'a str);

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("value", self.0)?;
        map.end()
    }
}

/// Ids.
pub(super) struct Ids<'a, I>(pub(super) &'a [I]);

impl<I: AsRef<str>> Serialize for Ids<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for id in self.0 {
            list.serialize_element(&Id(id.as_ref()))?;
        }
        list.end()
    }
}

macro_rules! message {
    ($message:path) => {
        impl Serialize for $message {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                json::serialize(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $message {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                json::deserialize(deserializer)
            }
        }
    };
}

macro_rules! enumeration {
    ($name:path) => {
        impl Named for $name {
            fn name(&self) -> &'static str {
                self.as_str_name()
            }

            fn from_name(name: &str) -> Option<Self> {
                Self::from_str_name(name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str_name())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                Self::from_str_name(&name).ok_or_else(|| serde::de::Error::unknown_variant(&name, &[]))
            }
        }
    };
}

/// What `build/json.rs` writes.
mod generated {
    #![allow(clippy::all, clippy::pedantic, unused_variables)]
    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    use super::{Fields, JsonError, Named};
    use crate::v1::json;

    include!(concat!(env!("OUT_DIR"), "/mesos_json.rs"));
}
