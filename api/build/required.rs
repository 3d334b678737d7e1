//! Writes the table of required fields: for each message those that are, and the members that have some.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use prost_types::field_descriptor_proto::{Label, Type};

use crate::schema::Schema;

pub(crate) fn generate(schema: &Schema<'_>) -> String {
    let relevant = relevant(schema);
    let index: BTreeMap<&str, usize> =
        relevant.iter().enumerate().map(|(index, full)| (full.as_str(), index)).collect();
    let mut code = format!("pub(super) static SHAPES: [Shape; {}] = [\n", relevant.len());
    for full in &relevant {
        let _ = writeln!(code, "Shape {{ fields: &[");
        for field in &schema.messages[full].field {
            let required = field.label() == Label::Required;
            let nested = index.get(field.type_name()).copied();
            if !required && nested.is_none() {
                continue;
            }
            let values = match field.r#type() {
                Type::Enum => {
                    let values = &schema.enums[field.type_name()].value;
                    format!("Some(&{:?})", values.iter().map(|value| value.number()).collect::<Vec<_>>())
                }
                _ => "None".to_owned(),
            };
            let _ = writeln!(
                code,
                "Field {{ name: {:?}, number: {}, required: {required}, repeated: {}, map: {}, nested: {nested:?}, values: {values} }},",
                field.name(),
                field.number(),
                field.label() == Label::Repeated,
                schema.map_entry(field).is_some(),
            );
        }
        let _ = writeln!(code, "] }},");
    }
    code.push_str("];\n");
    for (full, message) in schema.generated() {
        let _ = writeln!(
            code,
            "impl Described for {} {{ const NAME: &'static str = {:?}; const SHAPE: Option<usize> = {:?}; }}",
            schema.rust_path(full),
            message.name(),
            index.get(full)
        );
    }
    code
}

/// The messages in which something can be missing, at any depth.
fn relevant(schema: &Schema<'_>) -> BTreeSet<String> {
    let mut relevant = BTreeSet::new();
    loop {
        let before = relevant.len();
        for (full, message) in &schema.messages {
            if message
                .field
                .iter()
                .any(|field| field.label() == Label::Required || relevant.contains(field.type_name()))
            {
                relevant.insert(full.clone());
            }
        }
        if relevant.len() == before {
            return relevant;
        }
    }
}
