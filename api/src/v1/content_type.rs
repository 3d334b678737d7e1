//! The two encodings of the API, and the errors of what is not a message in either.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json::{self, Fields};
use super::required::{self, Described};

/// A message of the API, in either encoding.
#[allow(private_bounds)] // only generated messages are
pub trait ApiMessage:
    prost::Message + std::fmt::Debug + Default + Serialize + DeserializeOwned + Described + Fields
{
}

#[allow(private_bounds)]
impl<M: prost::Message + std::fmt::Debug + Default + Serialize + DeserializeOwned + Described + Fields> ApiMessage
    for M
{
}

/// Where JSON stops being JSON, in the words of Mesos's parser: the rest of that line.
fn json_error(body: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    let begin = body
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let rest = body.get(begin + error.column().saturating_sub(1)..).filter(|_| !error.is_eof()).unwrap_or_default();
    if text.starts_with("trailing characters") {
        let trailing = String::from_utf8_lossy(rest.trim_ascii());
        return format!("Parsed JSON included non-whitespace trailing characters: {trailing}");
    }
    // Not one of Mesos's: it has no such bound.
    if text.starts_with("recursion limit") {
        return text;
    }
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let near: String = String::from_utf8_lossy(line).chars().filter(|letter| *letter >= ' ').collect();
    format!("syntax error at line {} near: {near}", error.line().max(1))
}

/// How a body or a record is encoded.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ContentType {
    /// `application/json`.
    #[default]
    Json,
    /// `application/x-protobuf`.
    Protobuf,
}

/// Why a body is not the message it should be, in Mesos's words.
#[derive(Debug, thiserror::Error)]
pub enum ParseBodyError {
    /// Not JSON at all.
    #[error("Failed to parse body into JSON: {0}")]
    Json(String),
    /// JSON, but of something else.
    #[error("Failed to convert JSON into {name} protobuf: {reason}")]
    Convert {
        /// The message's name.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Not protobuf, or one that lacks a required field.
    #[error("Failed to parse body into {0} protobuf")]
    Protobuf(&'static str),
}

impl ContentType {
    /// The value of a `Content-Type` header, compared as Mesos compares it.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        match value {
            "application/json" => Some(Self::Json),
            "application/x-protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }

    /// The value of a `Content-Type` header.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The message in this encoding.
    #[must_use]
    pub fn encode(self, message: &impl ApiMessage) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(message).expect("messages hold nothing JSON cannot spell"),
            Self::Protobuf => message.encode_to_vec(),
        }
    }

    /// Reads a message, all of whose required fields must be there.
    ///
    /// # Errors
    /// Says in Mesos's words why it is none.
    pub fn decode<M: ApiMessage>(self, body: &[u8]) -> Result<M, ParseBodyError> {
        match self {
            Self::Json => {
                let value =
                    serde_json::from_slice(body).map_err(|error| ParseBodyError::Json(json_error(body, &error)))?;
                // Looked for first, because reading consumes the value; told last, as Mesos tells it.
                let missing = required::in_json(&value, M::SHAPE);
                let convert = |reason| ParseBodyError::Convert { name: M::NAME, reason };
                let message = json::read(value).map_err(|error| convert(error.to_string()))?;
                if missing.is_empty() {
                    return Ok(message);
                }
                Err(convert(format!("Missing required fields: {}", missing.join(", "))))
            }
            Self::Protobuf => {
                let message = M::decode(body).map_err(|_| ParseBodyError::Protobuf(M::NAME))?;
                if required::in_bytes(body, M::SHAPE).is_empty() {
                    return Ok(message);
                }
                Err(ParseBodyError::Protobuf(M::NAME))
            }
        }
    }

    /// The required fields a body lacks, by their paths; none for a body that is no message at all.
    #[must_use]
    pub fn missing<M: ApiMessage>(self, body: &[u8]) -> Vec<String> {
        match self {
            Self::Json => {
                serde_json::from_slice(body).map(|value| required::in_json(&value, M::SHAPE)).unwrap_or_default()
            }
            Self::Protobuf => required::in_bytes(body, M::SHAPE),
        }
    }
}
