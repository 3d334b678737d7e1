//! JSON bodies of the v0 endpoints, taken apart with Mesos's words for what is wrong with them.

use api::v1::ParseBodyError;
use serde_json::{Map, Value};

/// Parses a body; the error is Mesos's.
pub(super) fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| syntax_error(body, &error))
}

/// Why a body of the v1 APIs is no call: Mesos's parser says where JSON ends to be JSON, and ours in other words.
pub(crate) fn not_a_call(body: &[u8], error: &ParseBodyError) -> String {
    match (error, parse(body)) {
        (ParseBodyError::Json(_), Err(syntax)) => format!("Failed to parse body into JSON: {syntax}"),
        _ => error.to_string(),
    }
}

/// `syntax error at line 1 near: …`, with the rest of the line.
fn syntax_error(body: &[u8], error: &serde_json::Error) -> String {
    let line = error.line().max(1);
    let text = String::from_utf8_lossy(body);
    let rest: String = if error.is_eof() {
        String::new()
    } else {
        let of_line = text.lines().nth(line - 1).unwrap_or_default();
        of_line.chars().skip(error.column().saturating_sub(1)).take(200).collect()
    };
    format!("syntax error at line {line} near: {rest}")
}

/// A message's fields. What is required and missing is gathered, so that all of it can be named.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    missing: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The fields of a message that stands for itself.
    pub(super) fn of(value: &'a Value) -> Result<Self, String> {
        Self::at(value, String::new())
    }

    /// The fields of a message within another.
    pub(super) fn at(value: &'a Value, path: String) -> Result<Self, String> {
        let map = value.as_object().ok_or("Expecting a JSON object")?;
        Ok(Self { map, path, missing: Vec::new() })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes that a field is missing.
    fn lacks(&mut self, name: &str) {
        self.missing.push(self.path_of(name));
    }

    /// A string.
    pub(super) fn string(&self, name: &str) -> Result<Option<String>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(unexpected(other, name)),
        }
    }

    /// A number, or a string that spells one.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(Value::String(text)) => text.parse().map(Some).map_err(|_| {
                format!(
                    "Failed to parse '{text}' as a JSON number for field '{name}': syntax error at line 1 near: {text}"
                )
            }),
            Some(other) => Err(unexpected(other, name)),
        }
    }

    /// A number that has to be there.
    pub(super) fn required_number(&mut self, name: &str) -> Result<f64, String> {
        let number = self.number(name)?;
        if number.is_none() {
            self.lacks(name);
        }
        Ok(number.unwrap_or_default())
    }

    /// `{"nanoseconds":…}` in a field that has to be there.
    pub(super) fn required_nanoseconds(&mut self, name: &str) -> Result<i64, String> {
        if !self.has(name) {
            self.lacks(name);
        }
        Ok(self.nanoseconds(name)?.unwrap_or_default())
    }

    /// `{"nanoseconds":…}` in a field.
    pub(super) fn nanoseconds(&mut self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let mut inner = Fields::at(value, self.path_of(name)).map_err(|_| unexpected(value, name))?;
        let found = match inner.get("nanoseconds") {
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(other) => return Err(unexpected(other, "nanoseconds")),
            None => {
                inner.lacks("nanoseconds");
                None
            }
        };
        self.missing.append(&mut inner.missing);
        Ok(found)
    }

    /// A truth, or a string that spells one.
    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(Value::String(text)) => text.parse().map(Some).map_err(|_| {
                format!(
                    "Failed to parse '{text}' as a JSON boolean for field '{name}': syntax error at line 1 near: {text}"
                )
            }),
            Some(other) => Err(unexpected(other, name)),
        }
    }

    /// A message that has to be there; `None` when it is not, which [`done`](Self::done) says.
    pub(super) fn required(&mut self, name: &str) -> Result<Option<Fields<'a>>, String> {
        let Some(value) = self.get(name) else {
            self.lacks(name);
            return Ok(None);
        };
        Fields::at(value, self.path_of(name)).map(Some).map_err(|_| unexpected(value, name))
    }

    /// A message that may be there.
    pub(super) fn optional(&self, name: &str) -> Result<Option<Fields<'a>>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        Fields::at(value, self.path_of(name)).map(Some).map_err(|_| unexpected(value, name))
    }

    /// Is there such a field?
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Strings that have to be there.
    pub(super) fn require_strings(&mut self, names: &[&str]) -> Result<(), String> {
        for name in names {
            if self.string(name)?.is_none() {
                self.lacks(name);
            }
        }
        Ok(())
    }

    /// A list of messages; a bare one counts as a list of one.
    pub(super) fn list(&self, name: &str) -> Result<Vec<Fields<'a>>, String> {
        let values: Vec<&Value> = match self.get(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values.iter().collect(),
            Some(one) => vec![one],
        };
        let fields = values.into_iter().enumerate().map(|(at, value)| {
            Fields::at(value, format!("{}[{at}]", self.path_of(name))).map_err(|_| unexpected(value, name))
        });
        fields.collect()
    }

    /// Takes over what an inner message lacks.
    pub(super) fn absorb(&mut self, inner: Fields<'_>) {
        self.missing.extend(inner.missing);
    }

    /// Was everything there?
    pub(super) fn done(self) -> Result<(), String> {
        if self.missing.is_empty() {
            return Ok(());
        }
        Err(format!("Missing required fields: {}", self.missing.join(", ")))
    }
}

fn unexpected(value: &Value, name: &str) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("Not expecting a JSON {kind} for field '{name}'")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn syntax_errors_are_placed_as_mesos_places_them() {
        for (body, error) in [
            ("", "syntax error at line 1 near: "),
            ("{", "syntax error at line 1 near: "),
            ("x", "syntax error at line 1 near: x"),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err(), error, "{body}");
        }
    }

    #[test]
    fn all_missing_fields_are_named_with_their_path() {
        let value = json!({"windows": [{"unavailability": {}}, {}]});
        let mut fields = Fields::of(&value).unwrap();
        for mut window in fields.list("windows").unwrap() {
            if let Some(mut inner) = window.required("unavailability").unwrap() {
                inner.required_nanoseconds("start").unwrap();
                window.absorb(inner);
            }
            fields.absorb(window);
        }
        let expected = "Missing required fields: windows[0].unavailability.start, windows[1].unavailability";
        assert_eq!(fields.done().unwrap_err(), expected);
    }

    #[test]
    fn numbers_and_truths_may_be_strings() {
        let value = json!({"a": "2.5", "b": "true", "c": "x", "d": [1]});
        let fields = Fields::of(&value).unwrap();
        assert_eq!((fields.number("a").unwrap(), fields.bool("b").unwrap()), (Some(2.5), Some(true)));
        let error = "Failed to parse 'x' as a JSON number for field 'c': syntax error at line 1 near: x";
        assert_eq!(fields.number("c").unwrap_err(), error);
        assert_eq!(fields.string("d").unwrap_err(), "Not expecting a JSON array for field 'd'");
        assert_eq!(Fields::of(&json!(1)).err().unwrap(), "Expecting a JSON object");
    }
}
