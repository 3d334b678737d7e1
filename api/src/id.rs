//! Ids as types, so that an agent's and a framework's never meet by accident.
//!
//! In protobuf each is the message Mesos makes of it, with the one field `value`; the Mesos JSON of
//! messages that hold one ([`crate::v1`]) says `{"value": …}`, everything else the bare string.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! string_id {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize, prost::Message)]
        #[serde(transparent)]
        pub struct $name(#[prost(string, required, tag = "1")] pub String);

        impl $name {
            /// The id as it is spelled on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
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
                Self(value.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value)
            }
        }
    )*};
}

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
    fn ids_that_would_escape_a_directory_are_refused() {
        for (id, ok) in [("web.42", true), ("1:5:1", true), ("a b", true), ("", false), (".", false), ("..", false)] {
            assert_eq!(validate(id).is_ok(), ok, "{id:?}");
        }
        assert!(validate("a/b").is_err() && validate("a\nb").is_err() && validate(&"x".repeat(256)).is_err());
        assert!(validate(&"x".repeat(255)).is_ok());
    }
}
