//! Where a task may run: Marathon's constraint operators, those that say something about one task.

use api::attributes::{Attribute, AttributeValue};
use regex_lite::Regex;

/// `rack:LIKE:r1.*`.
#[derive(Clone, Debug)]
pub(crate) struct Constraint {
    text: String,
    field: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Like(Regex),
    Unlike(Regex),
    Is(String),
}

impl Constraint {
    /// Reads `FIELD:OPERATOR:VALUE`; the value may hold colons.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let field = parts.next().unwrap_or_default().trim();
        let operator = parts.next().unwrap_or_default().trim();
        let value = parts.next();
        if field.is_empty() || operator.is_empty() {
            return Err("write FIELD:OPERATOR:VALUE, for example rack:LIKE:r1.*".to_owned());
        }
        let pattern = || {
            let value = value.filter(|value| !value.is_empty()).ok_or("LIKE and UNLIKE need a regular expression")?;
            Regex::new(&format!("^(?:{value})$"))
                .map_err(|error| format!("`{value}` is not a valid regular expression: {error}"))
        };
        let rule = match operator {
            "LIKE" => Rule::Like(pattern()?),
            "UNLIKE" => Rule::Unlike(pattern()?),
            "IS" | "CLUSTER" => Rule::Is(normal(value.ok_or_else(|| format!("{operator} needs a value"))?)),
            "UNIQUE" | "GROUP_BY" | "MAX_PER" => {
                return Err(format!("{operator} compares several tasks, but this runs one: use LIKE, UNLIKE or IS"));
            }
            _ => return Err(format!("`{operator}` is not an operator: use LIKE, UNLIKE or IS (in capitals)")),
        };
        Ok(Self { text: text.to_owned(), field: field.to_owned(), rule })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What it asks about.
    pub(crate) fn field(&self) -> &str {
        &self.field
    }

    /// Does a node with these attributes pass? Only UNLIKE passes where the field is missing.
    pub(crate) fn holds(&self, place: &Place<'_>) -> bool {
        let Some(value) = place.field(&self.field) else { return matches!(self.rule, Rule::Unlike(_)) };
        match &self.rule {
            Rule::Like(pattern) => pattern.is_match(&value),
            Rule::Unlike(pattern) => !pattern.is_match(&value),
            Rule::Is(wanted) => *wanted == value,
        }
    }
}

/// What constraints can ask of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) hostname: &'a str,
    /// The node's name, where it is known.
    pub(crate) node: Option<&'a str>,
    pub(crate) attributes: &'a [Attribute],
}

impl Place<'_> {
    /// `hostname` (also `@hostname`) and, unless an attribute has that name, `node`; else the first attribute of that name.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        if name == "hostname" || name == "@hostname" {
            return Some(self.hostname.to_owned());
        }
        match self.attributes.iter().find(|attribute| attribute.name == name) {
            Some(attribute) => Some(match &attribute.value {
                AttributeValue::Scalar(number) => number.to_string(),
                AttributeValue::Ranges(ranges) => ranges.to_string(),
                AttributeValue::Text(text) => text.clone(),
            }),
            None if name == "node" => self.node.map(str::to_owned),
            None => None,
        }
    }
}

/// A plain number is written as scalars are, so that `1.0` is 1.
fn normal(value: &str) -> String {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_digit() || c == '.');
    match value.parse().ok().filter(|_| plain).and_then(api::Milli::from_units) {
        Some(number) => number.to_string(),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_mean_what_marathon_means() {
        let attributes = Attribute::parse_list("rack:r1-a;level:1;url:http://x:1;keys:[1-5]").unwrap();
        let place = Place { hostname: "10.77.0.11", node: Some("node-1"), attributes: &attributes };
        for (text, holds) in [
            ("rack:LIKE:r1.*", true),
            ("rack:LIKE:r1", false), // the whole value, not a part of it
            ("rack:LIKE:r1|r1-a", true),
            ("rack:UNLIKE:r2.*", true),
            ("rack:UNLIKE:r1.*", false),
            ("rack:IS:r1-a", true),
            ("rack:IS:R1-A", false),
            ("level:IS:1.0", true),
            ("url:IS:http://x:1", true),
            ("keys:IS:[1-5]", true),
            ("hostname:LIKE:10\\.77\\..*", true),
            ("node:CLUSTER:node-1", true),
            ("zone:LIKE:.*", false), // there is no such attribute
            ("zone:UNLIKE:.*", true),
        ] {
            assert_eq!(Constraint::parse(text).unwrap().holds(&place), holds, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for (text, reason) in [
            ("rack", "write FIELD"),
            (":LIKE:x", "write FIELD"),
            ("rack:LIKE", "need a regular expression"),
            ("rack:LIKE:(", "not a valid regular expression"),
            ("rack:like:x", "in capitals"),
            ("rack:UNIQUE", "compares several tasks"),
            ("rack:IS", "needs a value"),
        ] {
            let error = Constraint::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
