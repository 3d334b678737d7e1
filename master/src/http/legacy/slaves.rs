//! `/slaves`: agents, with every resource in full.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::AgentId;
use axum::extract::{Extension, State};
use axum::response::Response;
use master_core::View;

use super::state::write_recovered_agents;
use super::{Asked, document};
use crate::http::auth::Approvers;
use crate::http::render::agent::{ByRole, is_registered, write_agent, write_full_resources};
use crate::http::render::document::Document;
use crate::http::render::json::Place;
use crate::http::render::pool::Piece;
use crate::http::render::reads::Reads;
use crate::http::render::usage::Usage;
use crate::http::router::Api;

pub(super) async fn slaves(State(api): State<Api>, Extension(reads): Extension<Arc<Reads>>, asked: Asked) -> Response {
    let wanted = asked.query.get("slave_id").map(str::to_owned);
    let key = asked.key("slaves", wanted.clone().unwrap_or_default());
    let approvers = asked.approvers.clone();
    document(&api, &reads, &asked, key, move |view| plan(&view, wanted.as_deref(), &approvers)).await
}

/// Used and offered, by agent and role.
#[derive(Default)]
struct Detail {
    used: BTreeMap<AgentId, ByRole>,
    offered: BTreeMap<AgentId, ByRole>,
}

impl Detail {
    fn of(view: &View, wanted: Option<&str>) -> Self {
        let mut detail = Self::default();
        let is_wanted = |agent: &AgentId| wanted.is_none_or(|wanted| wanted == agent.as_str());
        for held in view.state.holdings().filter(|held| is_wanted(held.agent)) {
            let by_role = detail.used.entry(held.agent.clone()).or_default();
            by_role.entry(held.role.to_owned()).or_default().add_all(held.resources);
        }
        for offer in view.offers.values().filter(|offer| is_wanted(&offer.agent)) {
            let by_role = detail.offered.entry(offer.agent.clone()).or_default();
            by_role.entry(offer.role.clone()).or_default().add_all(&offer.resources);
        }
        detail
    }
}

pub(super) fn plan(view: &Arc<View>, wanted: Option<&str>, approvers: &Approvers) -> Vec<Piece> {
    let (usage, detail) = (Usage::of(view), Detail::of(view, wanted));
    let mut document = Document::default();
    document.add(1, Place::First, |json| {
        json.begin();
        json.key("slaves").begin_array();
    });
    let is_wanted = |id: &AgentId| wanted.is_none_or(|wanted| wanted == id.as_str());
    let agents = view.state.agents.values().filter(|agent| is_registered(agent) && is_wanted(&agent.id));
    let shared = Arc::new((view.clone(), usage, detail, approvers.clone()));
    document.list(agents.cloned().collect::<Vec<_>>(), move |json, agent| {
        let (view, usage, detail, approvers) = shared.as_ref();
        let none = ByRole::new();
        json.object(|json| {
            write_agent(json, view, &usage.agent(&agent.id), &agent, approvers);
            let used = detail.used.get(&agent.id).unwrap_or(&none);
            let offered = detail.offered.get(&agent.id).unwrap_or(&none);
            write_full_resources(json, &agent, used, offered, approvers);
        });
    });
    let (pictured, all) = (view.clone(), wanted.is_none());
    document.add(1, Place::First, move |json| {
        json.end_array();
        if all {
            write_recovered_agents(json, &pictured);
        } else {
            json.key("recovered_slaves").array::<()>([], |_, ()| ());
        }
        json.end();
    });
    document.into_pieces()
}
