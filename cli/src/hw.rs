//! `mesolith hw NODE`

use anyhow::Result;

use crate::cluster::State;
use crate::master::{Master, segment};
use crate::render::{Format, Ink, Output};

/// Shows the inventory a node sent when it joined.
pub(crate) async fn show(master: &Master, output: &Output, node: &str) -> Result<()> {
    let state = State::read(master).await?;
    let node = state.node(node)?;
    let path = format!("/mesolith/v1/nodes/{}/inventory", segment(node.name()));
    if output.format() == Format::Json {
        return output.value(&master.json::<serde_json::Value>(&path).await?);
    }
    let inventory: hwdetect::Inventory = master.json(&path).await?;
    let style = match output.ink() {
        Ink::Colour => hwdetect::Style::Colour,
        Ink::Plain => hwdetect::Style::Plain,
    };
    output.print(&hwdetect::render(&inventory, style))
}
