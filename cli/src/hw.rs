//! `mesolith hw NODE`

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::State;
use crate::master::{Master, Refused, segment};
use crate::render::{Cell, Format, Ink, Output, Row, Tone};

/// One attribute with where it is from.
#[derive(Debug, Deserialize, Serialize)]
struct Attribute {
    name: String,
    value: Value,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    evidence: String,
    others: Vec<Candidate>,
}

/// What somebody else says of the same.
#[derive(Debug, Deserialize, Serialize)]
struct Candidate {
    value: Value,
    source: String,
    evidence: String,
}

#[derive(Debug, Default, Deserialize)]
struct Attributes {
    attributes: Vec<Attribute>,
}

impl Row for Attribute {
    const HEADINGS: &'static [&'static str] = &["ATTRIBUTE", "VALUE", "SOURCE", "SEEN IN", "OTHERS SAY"];

    fn cells(&self) -> Vec<Cell> {
        let others: Vec<String> = self
            .others
            .iter()
            .filter(|other| other.value != self.value)
            .map(|other| format!("{} ({})", plain(&other.value), other.source))
            .collect();
        vec![
            Cell::text(&self.name),
            Cell::text(plain(&self.value)),
            Cell::text(&self.source),
            Cell::toned(&self.evidence, Tone::Faint),
            Cell::toned(others.join(", "), Tone::Busy),
        ]
    }
}

/// Numbers as people write them.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number
            .as_f64()
            .and_then(api::Milli::from_units)
            .map_or_else(|| number.to_string(), |milli| milli.to_string()),
        other @ (Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}

/// Shows the inventory a node sent, and its attributes with where they are from.
pub(crate) async fn show(master: &Master, output: &Output, node: &str) -> Result<()> {
    let state = State::read(master).await?;
    let node = state.node(node)?;
    let path = |what: &str| format!("/mesolith/v1/nodes/{}/{what}", segment(node.name()));
    let attributes = match master.json::<Attributes>(&path("attributes")).await {
        Ok(attributes) => attributes,
        // A master from before there were sources.
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404) => {
            Attributes::default()
        }
        Err(error) => return Err(error),
    };
    if output.format() == Format::Json {
        let mut inventory: Value = master.json(&path("inventory")).await?;
        if let Some(fields) = inventory.as_object_mut() {
            fields.insert("attributes".to_owned(), serde_json::to_value(attributes.attributes)?);
        }
        return output.value(&inventory);
    }
    let inventory: hwdetect::Inventory = master.json(&path("inventory")).await?;
    let style = match output.ink() {
        Ink::Colour => hwdetect::Style::Colour,
        Ink::Plain => hwdetect::Style::Plain,
    };
    output.print(&hwdetect::render(&inventory, style))?;
    output.print("\n")?;
    output.rows(&attributes.attributes, "The node has no attributes.")
}
