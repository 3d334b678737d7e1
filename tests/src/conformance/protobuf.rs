//! Mesos's messages in protobuf, to and from the JSON of the recordings, by a table of names, numbers and types.
//!
//! The table is not the one the master is built from: a wrong number in that one shows as a difference.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value, json};

/// `message NAME` followed by `  NUMBER FIELD TYPE` (`*TYPE` repeated, `map TYPE` from text), `enum NAME` by
/// `  NUMBER VALUE`.
const TABLE: &str = include_str!("schema.txt");

/// One field of a message.
#[derive(Debug)]
struct Field {
    number: u64,
    name: &'static str,
    kind: &'static str,
    many: bool,
    keyed: bool,
}

#[derive(Debug, Default)]
struct Schema {
    messages: BTreeMap<&'static str, Vec<Field>>,
    enums: BTreeMap<&'static str, Vec<(i64, &'static str)>>,
}

/// The message of type `name` that `value` describes.
pub fn encode(name: &str, value: &Value) -> Result<Vec<u8>> {
    let fields = schema().messages.get(name).with_context(|| format!("the table has no message {name}"))?;
    let object = value.as_object().with_context(|| format!("{name} is described by an object"))?;
    let mut bytes = Vec::new();
    for (key, item) in object {
        let field = fields.iter().find(|field| field.name == key).with_context(|| format!("{name} has no {key}"))?;
        if field.keyed {
            for (key, item) in item.as_object().with_context(|| format!("{name}.{key} is an object"))? {
                let mut entry = Vec::new();
                write(&mut entry, 1, "string", &json!(key))?;
                write(&mut entry, 2, field.kind, item)?;
                write_bytes(&mut bytes, field.number, &entry);
            }
        } else if field.many {
            for item in item.as_array().with_context(|| format!("{name}.{key} is a list"))? {
                write(&mut bytes, field.number, field.kind, item)?;
            }
        } else {
            write(&mut bytes, field.number, field.kind, item)?;
        }
    }
    Ok(bytes)
}

/// What a message of type `name` says, as the JSON form of it would.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Value> {
    let fields = schema().messages.get(name).with_context(|| format!("the table has no message {name}"))?;
    let mut object = Map::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        let field = fields.iter().find(|field| field.number == key >> 3);
        let value = match key & 7 {
            0 => Wire::Varint(take_varint(&mut rest)?),
            1 => Wire::Fixed64(u64::from_le_bytes(take(&mut rest, 8)?.try_into().expect("eight bytes were taken"))),
            2 => {
                let length = usize::try_from(take_varint(&mut rest)?)?;
                Wire::Bytes(take(&mut rest, length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(take(&mut rest, 4)?.try_into().expect("four bytes were taken"))),
            other => bail!("{name} holds wire type {other}"),
        };
        // Real masters send fields of their own in it; a client passes over what it does not know.
        let Some(field) = field else { continue };
        if field.keyed {
            let Wire::Bytes(entry) = value else { bail!("{name}.{} is a map", field.name) };
            let (key, value) = entry_of(entry, field.kind)?;
            if let Value::Object(map) = object.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
            continue;
        }
        let value = value.read(field.kind).with_context(|| format!("{name}.{}", field.name))?;
        if field.many {
            if let Value::Array(list) = object.entry(field.name).or_insert_with(|| json!([])) {
                list.push(value);
            }
        } else {
            object.insert(field.name.to_owned(), value);
        }
    }
    Ok(Value::Object(object))
}

enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl Wire<'_> {
    fn read(&self, kind: &str) -> Result<Value> {
        Ok(match (self, kind) {
            (Self::Varint(number), "bool") => json!(*number != 0),
            (Self::Varint(number), "int32" | "int64") => json!(number.cast_signed()),
            (Self::Varint(number), "uint32" | "uint64") => json!(number),
            (Self::Varint(number), _) => match schema().enums.get(kind) {
                Some(values) => {
                    let found = values.iter().find(|(value, _)| *value == number.cast_signed());
                    found.map_or_else(|| json!(number), |(_, name)| json!(name))
                }
                None => bail!("a varint where {kind} is expected"),
            },
            (Self::Fixed64(bits), "double") => {
                Number::from_f64(f64::from_bits(*bits)).map_or(Value::Null, Value::Number)
            }
            (Self::Fixed32(bits), "float") => {
                Number::from_f64(f64::from(f32::from_bits(*bits))).map_or(Value::Null, Value::Number)
            }
            (Self::Bytes(bytes), "string") => json!(std::str::from_utf8(bytes).context("text that is not UTF-8")?),
            (Self::Bytes(bytes), "bytes") => json!(STANDARD.encode(bytes)),
            (Self::Bytes(bytes), kind) => decode(kind, bytes)?,
            (Self::Fixed64(_) | Self::Fixed32(_), kind) => bail!("a fixed number where {kind} is expected"),
        })
    }
}

fn entry_of(entry: &[u8], kind: &str) -> Result<(String, Value)> {
    let mut rest = entry;
    let (mut key, mut value) = (String::new(), Value::Null);
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let length = usize::try_from(take_varint(&mut rest)?)?;
        let bytes = take(&mut rest, length)?;
        match tag {
            0x0a => key = String::from_utf8_lossy(bytes).into_owned(),
            0x12 => value = Wire::Bytes(bytes).read(kind)?,
            other => bail!("a map entry holds tag {other}"),
        }
    }
    Ok((key, value))
}

fn write(bytes: &mut Vec<u8>, number: u64, kind: &str, value: &Value) -> Result<()> {
    let wrong = || format!("{value} is no {kind}");
    match kind {
        "string" => write_bytes(bytes, number, value.as_str().with_context(wrong)?.as_bytes()),
        "bytes" => write_bytes(bytes, number, &STANDARD.decode(value.as_str().with_context(wrong)?)?),
        "double" => {
            write_varint(bytes, number << 3 | 1);
            bytes.extend_from_slice(&value.as_f64().with_context(wrong)?.to_le_bytes());
        }
        "float" => {
            write_varint(bytes, number << 3 | 5);
            #[allow(clippy::cast_possible_truncation)] // the field has no more
            let float = value.as_f64().with_context(wrong)? as f32;
            bytes.extend_from_slice(&float.to_le_bytes());
        }
        "bool" => write_number(bytes, number, u64::from(value.as_bool().with_context(wrong)?)),
        "int32" | "int64" => write_number(bytes, number, value.as_i64().with_context(wrong)?.cast_unsigned()),
        "uint32" | "uint64" => write_number(bytes, number, value.as_u64().with_context(wrong)?),
        _ => match schema().enums.get(kind) {
            Some(values) => {
                let known = values.iter().find(|(_, name)| value == name).map(|(value, _)| *value);
                let found = known.or_else(|| value.as_i64()).with_context(wrong)?;
                write_number(bytes, number, found.cast_unsigned());
            }
            None => write_bytes(bytes, number, &encode(kind, value)?),
        },
    }
    Ok(())
}

fn write_number(bytes: &mut Vec<u8>, number: u64, value: u64) {
    write_varint(bytes, number << 3);
    write_varint(bytes, value);
}

fn write_bytes(bytes: &mut Vec<u8>, number: u64, value: &[u8]) {
    write_varint(bytes, number << 3 | 2);
    write_varint(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    ensure!(count <= rest.len(), "the message ends inside a field");
    let (taken, left) = rest.split_at(count);
    *rest = left;
    Ok(taken)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number longer than ten bytes")
}

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| parse(TABLE))
}

fn parse(table: &'static str) -> Schema {
    let mut schema = Schema::default();
    let mut current = ("", "");
    for line in table.lines() {
        if let Some((kind, name)) = line.split_once(' ').filter(|(kind, _)| !kind.is_empty()) {
            current = (kind, name);
            if kind == "message" {
                schema.messages.insert(name, Vec::new());
            }
            continue;
        }
        let mut words = line.split_whitespace();
        let number: i64 =
            words.next().and_then(|word| word.parse().ok()).expect("a line of the table begins with a number");
        let name = words.next().expect("a number of the table has a name");
        if current.0 == "enum" {
            schema.enums.entry(current.1).or_default().push((number, name));
            continue;
        }
        let kind = words.next().expect("a field of the table has a type");
        let keyed = kind == "map";
        let kind = if keyed { words.next().expect("a map of the table has a type") } else { kind };
        let field = Field {
            number: number.cast_unsigned(),
            name,
            kind: kind.trim_start_matches('*'),
            many: kind.starts_with('*'),
            keyed,
        };
        schema.messages.entry(current.1).or_default().push(field);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let call = json!({
            "type": "ACCEPT", "framework_id": {"value": "f"},
            "accept": {
                "offer_ids": [{"value": "o1"}, {"value": "o2"}], "filters": {"refuse_seconds": 0.5},
                "operations": [{"type": "RESERVE", "reserve": {"resources": [
                    {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 300, "end": 31_000}]}}]}}]}
        });
        let bytes = encode("scheduler.Call", &call).unwrap();
        assert_eq!(decode("scheduler.Call", &bytes).unwrap(), call);
        assert!(decode("scheduler.Call", &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn every_type_of_the_table_is_in_it() {
        let schema = schema();
        let scalars = ["string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float"];
        for (message, fields) in &schema.messages {
            for field in fields {
                let known = scalars.contains(&field.kind)
                    || schema.messages.contains_key(field.kind)
                    || schema.enums.contains_key(field.kind);
                assert!(known, "{message}.{} is a {}", field.name, field.kind);
            }
        }
    }
}
