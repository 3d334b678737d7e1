//! Queries and form bodies: one grammar. A name that comes twice counts once, the last time.

use std::collections::BTreeMap;

/// Names and values.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Query(BTreeMap<String, String>);

/// A `%` that is followed by no two digits.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("Malformed % escape in '{word}': '{escape}'")]
pub(crate) struct BadEscape {
    word: String,
    escape: String,
}

impl Query {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, BadEscape> {
        let mut values = BTreeMap::new();
        for pair in text.split(['&', ';']).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.insert(decode(name)?, decode(value)?);
        }
        Ok(Self(values))
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a name as a number; what is none counts as absent, as in Mesos.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.get(name)?.parse().ok()
    }
}

fn decode(word: &str) -> Result<String, BadEscape> {
    let bytes = word.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                let value = digits
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let Some(value) = value else {
                    let escape: String = word.chars().skip_while(|c| *c != '%').take(3).collect();
                    return Err(BadEscape { word: word.to_owned(), escape });
                };
                decoded.push(value);
                at += 2;
            }
            other => decoded.push(*other),
        }
        at += 1;
    }
    Ok(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_mesos_reads_them() {
        let query = Query::parse("a=1&b=x+y%3Dz&a=2&flag&limit=-1&empty=").unwrap();
        assert_eq!((query.get("a"), query.get("b"), query.get("flag")), (Some("2"), Some("x y=z"), Some("")));
        assert_eq!((query.number("a"), query.number("limit"), query.number("none")), (Some(2), None, None));
        assert_eq!(Query::parse("").unwrap(), Query::default());
        let error = Query::parse("%zz").unwrap_err();
        assert_eq!(error.to_string(), "Malformed % escape in '%zz': '%zz'");
        assert!(Query::parse("a=%4").is_err() && Query::parse("a=%+1").is_err());
    }
}
