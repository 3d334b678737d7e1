//! `mesolith offers`

use anyhow::Result;
use serde::Serialize;

use crate::cluster::{Amounts, State};
use crate::master::Master;
use crate::render::{Cell, Output, Row, amount, mebibytes};

#[derive(Debug, Serialize)]
struct OfferRow {
    id: String,
    framework_id: String,
    framework_name: String,
    /// The node's name.
    node: String,
    agent_id: String,
    resources: Amounts,
}

impl Row for OfferRow {
    const HEADINGS: &'static [&'static str] = &["OFFER", "TO", "NODE", "CPUS", "MEMORY", "DISK", "GPUS"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(&self.id),
            Cell::text(&self.framework_name),
            Cell::text(&self.node),
            Cell::number(amount(self.resources.cpus)),
            Cell::number(mebibytes(self.resources.mem)),
            Cell::number(mebibytes(self.resources.disk)),
            Cell::number(amount(self.resources.gpus)),
        ]
    }
}

/// Lists those frameworks have not answered yet.
pub(crate) async fn list(master: &Master, output: &Output) -> Result<()> {
    let state = State::read(master).await?;
    let rows: Vec<OfferRow> = state
        .frameworks
        .iter()
        .flat_map(|framework| framework.offers.iter().map(move |offer| (framework, offer)))
        .map(|(framework, offer)| OfferRow {
            id: offer.id.clone(),
            framework_id: framework.id.clone(),
            framework_name: framework.name.clone(),
            node: state.node_name(&offer.slave_id).to_owned(),
            agent_id: offer.slave_id.clone(),
            resources: offer.resources,
        })
        .collect();
    output.rows(&rows, "No offer is outstanding: frameworks have answered all they got.")
}
