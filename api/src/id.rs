//! Ids as types, so that an agent's and a framework's never meet by accident.
//!
//! In protobuf each is the message Mesos makes of it, with the one field `value`; the Mesos JSON of
//! messages that hold one ([`crate::v1`]) says `{"value": …}`, everything else the bare string.

use std::fmt;
use std::sync::Arc;

use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use serde::{Deserialize, Serialize};

macro_rules! string_id {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>); // shared: an id is in many places at once

        impl $name {
            /// The id as it is spelled on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::from("")
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.as_str()).finish()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self(value.into())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value.into())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl prost::Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                encoding::encode_key(VALUE_TAG, WireType::LengthDelimited, buf);
                encoding::encode_varint(self.0.len() as u64, buf);
                buf.put_slice(self.0.as_bytes());
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), prost::DecodeError> {
                if tag != VALUE_TAG {
                    return encoding::skip_field(wire_type, tag, buf, context);
                }
                let mut value = String::new();
                encoding::string::merge(wire_type, &mut value, buf, context)?;
                *self = value.into();
                Ok(())
            }

            fn encoded_len(&self) -> usize {
                encoding::key_len(VALUE_TAG) + encoding::encoded_len_varint(self.0.len() as u64) + self.0.len()
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    )*};
}

/// Of `value`, the one field of each of Mesos's id messages.
const VALUE_TAG: u32 = 1;

string_id! {
    /// A cluster's master; the prefix of the ids it hands out.
    MasterId,
    /// `<master>-S<n>`: one node in the pool.
    AgentId,
    /// `<master>-<nnnn>`: one subscribed framework.
    FrameworkId,
    /// `<master>-O<n>`.
    OfferId,
    /// Chosen by the framework, unique within it: always pair it with a [`FrameworkId`].
    TaskId,
    /// Chosen by the framework; a command task's executor has the task's id.
    ExecutorId,
    /// A UUID: one run of one task.
    ContainerId,
    /// Chosen by the framework for operation feedback.
    OperationId,
    /// A node's name, stable over reboots: what an operator calls the machine.
    NodeName,
}

/// Why an id chosen by a framework or an operator is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidId {
    /// The empty string.
    #[error("ID must not be empty")]
    Empty,
    /// Longer than a file name may be.
    #[error("ID must not be greater than 255 characters")]
    TooLong,
    /// `.` or `..` would name a directory.
    #[error("'{0}' is disallowed")]
    Dot(String),
    /// Control characters, `/` or `\`.
    #[error("'{0}' contains invalid characters")]
    Characters(String),
}

/// Checks an id a user chose: ids become directory names (Mesos, common/validation).
///
/// # Errors
/// Says which rule the id breaks.
pub fn validate(id: &str) -> Result<(), InvalidId> {
    if id.is_empty() {
        return Err(InvalidId::Empty);
    }
    if id.len() > 255 {
        return Err(InvalidId::TooLong);
    }
    if id == "." || id == ".." {
        return Err(InvalidId::Dot(id.to_owned()));
    }
    if id.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(InvalidId::Characters(id.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_message_with_the_one_field_value() {
        use prost::Message;

        let bytes = TaskId::from("web.1").encode_to_vec();
        assert_eq!(bytes, b"\x0a\x05web.1");
        assert_eq!(TaskId::decode(&*bytes).unwrap(), TaskId::from("web.1"));
        assert_eq!(TaskId::decode(&b"\x10\x07\x0a\x01x"[..]).unwrap().as_str(), "x", "other fields are passed over");
        assert!(TaskId::decode(&b"\x0a\x05we"[..]).is_err() && TaskId::decode(&b"\x0a\x01\xff"[..]).is_err());
    }

    #[test]
    fn ids_that_would_escape_a_directory_are_refused() {
        for (id, ok) in [("web.42", true), ("1:5:1", true), ("a b", true), ("", false), (".", false), ("..", false)] {
            assert_eq!(validate(id).is_ok(), ok, "{id:?}");
        }
        assert!(validate("a/b").is_err() && validate("a\nb").is_err() && validate(&"x".repeat(256)).is_err());
        assert!(validate(&"x".repeat(255)).is_ok());
    }
}
