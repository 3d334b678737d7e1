//! A JSON writer without a tree in between: bytes go where they are read from. It sets the commas.

use std::io::Write;

use api::Milli;
use serde::Serialize;

/// Where in a list or an object something stands: the first has no comma before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// Nothing stands before it.
    First,
    /// Something does.
    Next,
}

/// Writes one document, or a piece of one.
#[derive(Debug, Default)]
pub(crate) struct Json {
    out: Vec<u8>,
    /// Something stands before the next value of the same array or object.
    comma: bool,
}

impl Json {
    /// A writer with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), comma: false }
    }

    /// In the middle of a list written in pieces: says what stands before what comes next.
    pub(crate) const fn set_place(&mut self, place: Place) {
        self.comma = matches!(place, Place::Next);
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    #[inline]
    fn value(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    /// The key of the value that comes next. Keys are our own words: nothing in them needs escaping.
    #[inline]
    pub(crate) fn key(&mut self, key: &str) -> &mut Self {
        if self.comma {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.comma = false;
        self
    }

    /// A key somebody else chose.
    pub(crate) fn key_of(&mut self, key: &str) -> &mut Self {
        if self.comma {
            self.out.push(b',');
        }
        self.escaped(key);
        self.out.push(b':');
        self.comma = false;
        self
    }

    /// `{`; to be followed by [`end`](Self::end).
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.value();
        self.out.push(b'{');
        self.comma = false;
    }

    /// `}`.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.out.push(b'}');
        self.comma = true;
    }

    /// `[`; to be followed by [`end_array`](Self::end_array).
    #[inline]
    pub(crate) fn begin_array(&mut self) {
        self.value();
        self.out.push(b'[');
        self.comma = false;
    }

    /// `]`.
    #[inline]
    pub(crate) fn end_array(&mut self) {
        self.out.push(b']');
        self.comma = true;
    }

    /// An object, written by `fill`.
    #[inline]
    pub(crate) fn object(&mut self, fill: impl FnOnce(&mut Self)) {
        self.begin();
        fill(self);
        self.end();
    }

    /// An array with an element for each item.
    #[inline]
    pub(crate) fn array<T>(&mut self, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Self, T)) {
        self.begin_array();
        for item in items {
            each(self, item);
        }
        self.end_array();
    }

    /// A string.
    #[inline]
    pub(crate) fn string(&mut self, text: &str) {
        self.value();
        self.escaped(text);
    }

    fn escaped(&mut self, text: &str) {
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) =
            rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\' || *byte == 0x7f)
        {
            self.out.extend_from_slice(&rest[..at]);
            match rest[at] {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                8 => self.out.extend_from_slice(b"\\b"),
                12 => self.out.extend_from_slice(b"\\f"),
                other => write!(self.out, "\\u{other:04x}").expect("a Vec takes every write"),
            }
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
    }

    /// `true` or `false`.
    #[allow(clippy::fn_params_excessive_bools)] // the truth is what is written
    pub(crate) fn bool(&mut self, value: bool) {
        self.value();
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, value: u64) {
        self.value();
        self.digits(value);
    }

    /// A number with a fraction, as Mesos writes it: always with a point.
    pub(crate) fn double(&mut self, value: f64) {
        self.value();
        // Whole numbers get their `.0`; what is no number is nothing JSON knows.
        if serde_json::to_writer(&mut self.out, &value).is_err() {
            self.out.extend_from_slice(b"null");
        }
    }

    /// Thousandths as a number with a fraction.
    #[inline]
    pub(crate) fn thousandths(&mut self, value: u64) {
        self.value();
        self.digits(value / 1000);
        self.out.push(b'.');
        let fraction = value % 1000;
        let digits =
            [fraction / 100, fraction / 10 % 10, fraction % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0));
        let shown = if digits[2] != b'0' { 3 } else { 1 + usize::from(digits[1] != b'0') };
        self.out.extend_from_slice(&digits[..shown]);
    }

    /// A quantity.
    #[inline]
    pub(crate) fn milli(&mut self, value: Milli) {
        self.thousandths(value.0);
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    /// Anything that knows how it is spelled.
    pub(crate) fn serialize(&mut self, value: &impl Serialize) {
        self.value();
        let start = self.out.len();
        if serde_json::to_writer(&mut self.out, value).is_err() {
            self.out.truncate(start);
            self.out.extend_from_slice(b"null");
        }
    }
}

/// What was written, for tests.
#[cfg(test)]
pub(super) fn written(write: impl FnOnce(&mut Json)) -> String {
    let mut json = Json::default();
    write(&mut json);
    String::from_utf8(json.into_bytes()).expect("what is written is text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_values_only() {
        let text = written(|json| {
            json.object(|json| {
                json.key("a").array([1, 2], Json::integer);
                json.key("b").object(|_| ());
                json.key_of("c\"").bool(true);
                json.key("d").array([(); 2], |json, ()| json.object(|json| json.key("e").string("f")));
            });
        });
        assert_eq!(text, r#"{"a":[1,2],"b":{},"c\"":true,"d":[{"e":"f"},{"e":"f"}]}"#);
    }

    #[test]
    fn numbers_are_written_as_mesos_does() {
        for (thousandths, text) in [(0, "0.0"), (100, "0.1"), (7800, "7.8"), (1_000_010, "1000.01"), (1, "0.001")] {
            assert_eq!(written(|json| json.thousandths(thousandths)), text);
        }
        assert_eq!(written(|json| json.double(1e6)), "1000000.0");
        assert_eq!(written(|json| json.double(1_795_272_155.908_965_9)), "1795272155.9089658");
        assert_eq!(written(|json| json.integer(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn every_string_reads_back_as_it_was() {
        for text in ["", "plain", "q\"b\\n\nt\tr\r\u{8}\u{c}\u{1}\u{7f}/ü\u{2028}", "\u{0}"] {
            let read: String = serde_json::from_str(&written(|json| json.string(text))).unwrap();
            assert_eq!(read, text);
        }
    }
}
