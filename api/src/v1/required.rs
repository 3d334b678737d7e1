//! Which required fields a message lacks: proto2 refuses it, prost would give a default.
//!
//! The table of required fields is generated (`build/required.rs`); two walkers go along it, one
//! over JSON and one over protobuf bytes. Paths come in the order Mesos prints them: a message's
//! own first as declared, then those of its members by field number.
#![allow(clippy::wildcard_enum_match_arm)] // the kinds of JSON are all there are

use serde_json::Value;

/// A message in which something can be missing.
pub(super) struct Shape {
    /// Those required, and those in which something can be missing; as declared.
    fields: &'static [Field],
}

struct Field {
    name: &'static str,
    number: u32,
    required: bool,
    repeated: bool,
    /// A map in JSON, repeated entries in protobuf.
    map: bool,
    /// The shape of a message.
    nested: Option<usize>,
    /// An enum's numbers: another one counts as absent.
    values: Option<&'static [i32]>,
}

/// A message of the API: its name, and where its required fields stand in the table.
pub trait Described {
    /// `Call`.
    #[doc(hidden)]
    const NAME: &'static str;
    /// `None` when nothing can be missing.
    #[doc(hidden)]
    const SHAPE: Option<usize>;
}

/// Deeper than any message of the API goes; only container ids can nest without end.
const DEEPEST: usize = 64;
/// An error text is for a person: what comes after so many paths is left off.
const MOST: usize = 1000;

/// The paths missing in JSON.
pub(super) fn in_json(value: &Value, shape: Option<usize>) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(shape) = shape {
        json(value, &SHAPES[shape], "", DEEPEST, &mut missing);
    }
    missing
}

/// The paths missing in protobuf bytes; bytes that are no message end the search where they are.
pub(super) fn in_bytes(bytes: &[u8], shape: Option<usize>) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(shape) = shape {
        wire(bytes, &SHAPES[shape], "", DEEPEST, &mut missing);
    }
    missing
}

fn by_number(shape: &Shape) -> Vec<&'static Field> {
    let mut fields: Vec<&Field> = shape.fields.iter().filter(|field| field.nested.is_some()).collect();
    fields.sort_by_key(|field| field.number);
    fields
}

fn member(prefix: &str, field: &Field, index: usize) -> String {
    if field.repeated { format!("{prefix}{}[{index}].", field.name) } else { format!("{prefix}{}.", field.name) }
}

fn json(value: &Value, shape: &Shape, prefix: &str, deeper: usize, missing: &mut Vec<String>) {
    for field in shape.fields.iter().filter(|field| field.required) {
        if value.get(field.name).is_none_or(Value::is_null) && missing.len() < MOST {
            missing.push(format!("{prefix}{}", field.name));
        }
    }
    for field in by_number(shape) {
        let (Some(given), Some(nested), Some(deeper)) = (value.get(field.name), field.nested, deeper.checked_sub(1))
        else {
            continue;
        };
        let nested = &SHAPES[nested];
        match given {
            Value::Null => {}
            Value::Array(items) => {
                for (index, item) in items.iter().filter(|item| !item.is_null()).enumerate() {
                    json(item, nested, &member(prefix, field, index), deeper, missing);
                }
            }
            Value::Object(entries) if field.map => {
                // The nested shape is the entry's, with the one member `value`.
                for (index, value) in entries.values().enumerate() {
                    let entry = serde_json::json!({ "value": value });
                    json(&entry, nested, &member(prefix, field, index), deeper, missing);
                }
            }
            one => json(one, nested, &member(prefix, field, 0), deeper, missing),
        }
    }
}

fn wire(bytes: &[u8], shape: &Shape, prefix: &str, deeper: usize, missing: &mut Vec<String>) {
    let mut there = vec![false; shape.fields.len()];
    // A singular member in several pieces is their concatenation: that is how protobuf merges.
    let mut members: Vec<Vec<Vec<u8>>> = vec![Vec::new(); shape.fields.len()];
    let mut rest = bytes;
    while let Some((number, content)) = next(&mut rest) {
        let Some(position) = shape.fields.iter().position(|field| field.number == number) else { continue };
        let field = &shape.fields[position];
        match content {
            Content::Number(value) => {
                #[allow(clippy::cast_possible_truncation)] // an enum is the low 32 bits
                let known = field.values.is_none_or(|values| values.contains(&(value as i32)));
                there[position] |= known;
            }
            Content::Bytes(piece) => {
                there[position] = true;
                if field.nested.is_some() {
                    match members[position].last_mut() {
                        Some(before) if !field.repeated => before.extend_from_slice(piece),
                        Some(_) | None => members[position].push(piece.to_vec()),
                    }
                }
            }
        }
    }
    for (field, _) in shape.fields.iter().zip(&there).filter(|(field, there)| field.required && !**there) {
        if missing.len() < MOST {
            missing.push(format!("{prefix}{}", field.name));
        }
    }
    let Some(deeper) = deeper.checked_sub(1) else { return };
    for field in by_number(shape) {
        let position = shape.fields.iter().position(|other| other.number == field.number).unwrap_or_default();
        let Some(nested) = field.nested else { continue };
        for (index, piece) in members[position].iter().enumerate() {
            wire(piece, &SHAPES[nested], &member(prefix, field, index), deeper, missing);
        }
    }
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The next field; `None` at the end, and at what is no field (groups, which no Mesos message has, among them).
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, Content<'a>)> {
    let key = prost::encoding::decode_varint(rest).ok()?;
    let number = u32::try_from(key >> 3).ok()?;
    let content = match key & 7 {
        0 => Content::Number(prost::encoding::decode_varint(rest).ok()?),
        1 => Content::Bytes(take(rest, 8)?),
        2 => {
            let length = usize::try_from(prost::encoding::decode_varint(rest).ok()?).ok()?;
            Content::Bytes(take(rest, length)?)
        }
        5 => Content::Bytes(take(rest, 4)?),
        _ => return None,
    };
    Some((number, content))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (piece, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(piece)
}

include!(concat!(env!("OUT_DIR"), "/mesos_required.rs"));
