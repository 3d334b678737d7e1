//! Writes, for each message, how Mesos spells it in JSON and how it is read back.

use std::fmt::Write;

use heck::ToUpperCamelCase;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use crate::schema::{Schema, rust_field};

pub(crate) fn generate(schema: &Schema<'_>) -> String {
    let mut code = String::new();
    for full in schema.enums.keys().filter(|full| !Schema::is_ours(full)) {
        let _ = writeln!(code, "enumeration!({});", schema.rust_path(full));
    }
    for (full, message) in schema.generated() {
        let path = schema.rust_path(full);
        let _ = writeln!(code, "impl Fields for {path} {{");
        let _ = writeln!(code, "fn set(&mut self, name: &str, given: Value) -> Result<(), JsonError> {{ match name {{");
        for field in &message.field {
            let _ = writeln!(code, "{:?} => {{ {} }}", field.name(), read(schema, full, message, field));
        }
        let _ = writeln!(code, "_ => {{}} }} Ok(()) }}");
        let _ = writeln!(code, "fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {{");
        for field in &message.field {
            let _ = writeln!(code, "{}", write(schema, full, message, field));
        }
        let _ = writeln!(code, "Ok(()) }} }}\nmessage!({path});");
    }
    code
}

/// The function of `json.rs` that reads one value of this type.
fn reader(schema: &Schema<'_>, field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::String => "json::text".to_owned(),
        Type::Bytes => "json::bytes".to_owned(),
        Type::Bool => "json::boolean".to_owned(),
        Type::Double => "json::double".to_owned(),
        Type::Int32 => "json::int32".to_owned(),
        Type::Uint32 => "json::uint32".to_owned(),
        Type::Int64 => "json::int64".to_owned(),
        Type::Uint64 => "json::uint64".to_owned(),
        Type::Enum if field.label() == Label::Required => {
            format!("json::required_enumeration::<{}>", schema.rust_path(field.type_name()))
        }
        Type::Enum => format!("json::enumeration::<{}>", schema.rust_path(field.type_name())),
        Type::Message if Schema::is_ours(field.type_name()) => {
            format!("json::id::<{}>", schema.rust_path(field.type_name()))
        }
        Type::Message => format!("json::message::<{}>", schema.rust_path(field.type_name())),
        other => panic!("no Mesos message has a field like {}: {other:?}", field.name()),
    }
}

/// How a value of this type is written: an expression over `value`, a reference.
fn written(schema: &Schema<'_>, field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Bytes => "&json::Base64(value)".to_owned(),
        Type::Double => "&json::Double(*value)".to_owned(),
        Type::Enum => format!("&json::Name::<{}>::new(*value)", schema.rust_path(field.type_name())),
        Type::Message if Schema::is_ours(field.type_name()) => "&json::Id(value.as_str())".to_owned(),
        _ => "value".to_owned(),
    }
}

fn oneof<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a str> {
    let index = usize::try_from(field.oneof_index?).ok()?;
    Some(message.oneof_decl[index].name())
}

fn read(schema: &Schema<'_>, full: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let (name, rust, reader) = (field.name(), rust_field(field), reader(schema, field));
    if let Some(oneof) = oneof(message, field) {
        let variant = variant(schema, full, oneof, field);
        return format!("if let Some(value) = {reader}({name:?}, given)? {{ self.{oneof} = Some({variant}(value)); }}");
    }
    if let Some(entry) = schema.map_entry(field) {
        let reader = self::reader(schema, &entry.field[1]);
        return format!(
            "json::map({name:?}, given, |key, given| {{ \
             self.{rust}.insert(key, {reader}(\"value\", given)?.unwrap_or_default()); Ok(()) }})?;"
        );
    }
    if field.label() == Label::Repeated {
        return format!(
            "json::each(given, &mut |given| {{ \
             if let Some(value) = {reader}({name:?}, given)? {{ self.{rust}.push(value); }} Ok(()) }})?;"
        );
    }
    let value = if schema.is_boxed(full, field) { "Box::new(value)" } else { "value" };
    let value = if field.label() == Label::Required { value.to_owned() } else { format!("Some({value})") };
    format!("if let Some(value) = {reader}({name:?}, given)? {{ self.{rust} = {value}; }}")
}

fn write(schema: &Schema<'_>, full: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let (name, rust, written) = (field.name(), rust_field(field), written(schema, field));
    let is_enum = field.r#type() == Type::Enum;
    // An enum number that is no name was not understood: absent, as in proto2.
    let guard = if is_enum { format!(" && ({written}).is_known()") } else { String::new() };
    if let Some(oneof) = oneof(message, field) {
        let variant = variant(schema, full, oneof, field);
        return format!(
            "if let Some({variant}(value)) = &self.{oneof}{guard} {{ map.serialize_entry({name:?}, {written})?; }}"
        );
    }
    if schema.map_entry(field).is_some() {
        return format!("if !self.{rust}.is_empty() {{ map.serialize_entry({name:?}, &self.{rust})?; }}");
    }
    if field.label() == Label::Repeated {
        let list = match field.r#type() {
            Type::Enum => format!("&json::Names::<{}>::new(&self.{rust})", schema.rust_path(field.type_name())),
            Type::Message if Schema::is_ours(field.type_name()) => format!("&json::Ids(&self.{rust})"),
            Type::Bytes | Type::Double => panic!("no Mesos message repeats this: {name}"),
            _ => format!("&self.{rust}"),
        };
        return format!("if !self.{rust}.is_empty() {{ map.serialize_entry({name:?}, {list})?; }}");
    }
    if field.label() == Label::Required {
        return match is_enum {
            true => {
                format!(
                    "{{ let value = &self.{rust}; if ({written}).is_known() {{ map.serialize_entry({name:?}, {written})?; }} }}"
                )
            }
            false => format!("{{ let value = &self.{rust}; map.serialize_entry({name:?}, {written})?; }}"),
        };
    }
    // Mesos writes a default that is declared, unless the field is deprecated.
    let deprecated = field.options.as_ref().is_some_and(prost_types::FieldOptions::deprecated);
    if field.default_value.is_some() && !deprecated {
        return match field.r#type() {
            Type::Enum => {
                format!("{{ let value = &i32::from(self.{rust}()); map.serialize_entry({name:?}, {written})?; }}")
            }
            Type::String => format!("map.serialize_entry({name:?}, self.{rust}())?;"),
            _ => format!("{{ let value = &self.{rust}(); map.serialize_entry({name:?}, {written})?; }}"),
        };
    }
    format!("if let Some(value) = &self.{rust}{guard} {{ map.serialize_entry({name:?}, {written})?; }}")
}

fn variant(schema: &Schema<'_>, full: &str, oneof: &str, field: &FieldDescriptorProto) -> String {
    format!("{}::{}::{}", schema.module_path(full), oneof.to_upper_camel_case(), field.name().to_upper_camel_case())
}
