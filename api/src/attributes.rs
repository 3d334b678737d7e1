//! What constraints match on: a node's attributes, and Mesos's text grammar for them.

use serde::{Deserialize, Serialize};

use crate::{Milli, Ranges};

/// A named fact about a node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// For example `rack`.
    pub name: String,
    /// For example `r1`.
    pub value: AttributeValue,
}

/// The three kinds of value Mesos attributes have.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// A number, to three decimals.
    Scalar(Milli),
    /// `[a-b, c-d]`.
    Ranges(Ranges),
    /// Anything else.
    Text(String),
}

/// Why `--attributes` or `mesolith.attributes=` is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseAttributesError {
    /// No `:` in an entry.
    #[error("attribute `{0}` lacks a value: write `name:value`")]
    NoValue(String),
    /// `[…]` that is not a list of ranges.
    #[error("attribute `{0}` has a malformed range")]
    BadRange(String),
}

impl Attribute {
    /// A text attribute.
    #[must_use]
    pub fn text(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: AttributeValue::Text(value.into()) }
    }

    /// A numeric attribute; `None` where the number is not one Mesos can hold.
    #[must_use]
    pub fn scalar(name: &str, value: f64) -> Option<Self> {
        Some(Self { name: name.to_owned(), value: AttributeValue::Scalar(Milli::from_units(value)?) })
    }

    /// Parses `rack:r1;level:3;keys:[1000-1500]` (entries split by `;` or newline, each at its first `:`).
    ///
    /// # Errors
    /// Names the entry that cannot be read.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ParseAttributesError> {
        text.split([';', '\n']).map(str::trim).filter(|entry| !entry.is_empty()).map(Self::parse).collect()
    }

    fn parse(entry: &str) -> Result<Self, ParseAttributesError> {
        let no_value = || ParseAttributesError::NoValue(entry.to_owned());
        let (name, value) = entry.split_once(':').ok_or_else(no_value)?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(no_value());
        }
        let value = if value.starts_with('[') {
            AttributeValue::Ranges(parse_ranges(value).ok_or_else(|| ParseAttributesError::BadRange(name.to_owned()))?)
        } else if let Some(number) = value.parse().ok().and_then(Milli::from_units) {
            AttributeValue::Scalar(number)
        } else {
            AttributeValue::Text(value.to_owned())
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

/// Parses `[1-5, 7-9]`; `None` when it is anything else.
#[must_use]
pub fn parse_ranges(text: &str) -> Option<Ranges> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut ranges = Vec::new();
    for part in inner.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (begin, end) = part.split_once('-').unwrap_or((part, part));
        ranges.push((begin.trim().parse().ok()?, end.trim().parse().ok()?));
    }
    Some(Ranges::new(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_value_follows_from_its_spelling() {
        let list = Attribute::parse_list("rack:r1-a; level:10;keys:[1000-1500]\nurl:http://x:1").unwrap();
        assert_eq!(list[0], Attribute::text("rack", "r1-a"));
        assert_eq!(list[1], Attribute::scalar("level", 10.0).unwrap());
        assert_eq!(list[2].value, AttributeValue::Ranges(Ranges::new([(1000, 1500)])));
        assert_eq!(list[3], Attribute::text("url", "http://x:1"));
        assert!(Attribute::parse_list("rack").is_err() && Attribute::parse_list("keys:[a-b]").is_err());
        assert_eq!(Attribute::parse_list("").unwrap(), vec![]);
    }
}
