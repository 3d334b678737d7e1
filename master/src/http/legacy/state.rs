//! `/state`: everything.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use master_core::View;

use super::cluster::{write_flags, write_version};
use super::{Asked, document};
use crate::http::auth::Approvers;
use crate::http::render::agent::{is_registered, is_unreachable, write_agent, write_recovered};
use crate::http::render::document::Document;
use crate::http::render::framework::{add_completed_framework, add_framework};
use crate::http::render::json::{Json, Place};
use crate::http::render::pool::Piece;
use crate::http::render::reads::Reads;
use crate::http::render::usage::Usage;
use crate::http::router::{Api, Facts};

/// What this master can do, in Mesos's words.
pub(crate) const CAPABILITIES: [&str; 3] = ["AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"];

pub(super) async fn state(State(api): State<Api>, Extension(reads): Extension<Arc<Reads>>, asked: Asked) -> Response {
    let (facts, approvers) = (api.facts.clone(), asked.approvers.clone());
    let key = asked.key("state", String::new());
    document(&api, &reads, &asked, key, move |view| plan(&view, &facts, &approvers)).await
}

pub(super) fn plan(view: &Arc<View>, facts: &Arc<Facts>, approvers: &Approvers) -> Vec<Piece> {
    let usage = Arc::new(Usage::of(view));
    let mut document = Document::default();
    let (pictured, known, rights) = (view.clone(), facts.clone(), approvers.clone());
    document.add(1, Place::First, move |json| write_head(json, &pictured, &known, &rights));
    let registered = view.state.agents.values().filter(|agent| is_registered(agent)).cloned();
    let (pictured, counted, rights) = (view.clone(), usage.clone(), approvers.clone());
    document.list(registered, move |json, agent| {
        json.object(|json| write_agent(json, &pictured, &counted.agent(&agent.id), &agent, &rights));
    });
    let pictured = view.clone();
    document.add(1, Place::First, move |json| {
        json.end_array();
        write_recovered_agents(json, &pictured);
        json.key("frameworks").begin_array();
    });
    let mut place = Place::First;
    for framework in view.state.frameworks.values().filter(|one| approvers.can_view_framework(&one.info.user)) {
        add_framework(&mut document, view, &usage, framework, place, approvers);
        place = Place::Next;
    }
    document.add(1, Place::Next, |json| {
        json.end_array();
        json.key("completed_frameworks").begin_array();
    });
    let mut place = Place::First;
    for framework in view.state.completed_frameworks.iter().filter(|one| approvers.can_view_framework(&one.info.user)) {
        add_completed_framework(&mut document, framework, place, approvers);
        place = Place::Next;
    }
    document.add(1, Place::Next, |json| {
        json.end_array();
        json.key("orphan_tasks").array::<()>([], |_, ()| ());
        json.key("unregistered_frameworks").array::<()>([], |_, ()| ());
        json.end();
    });
    document.into_pieces()
}

#[allow(clippy::cast_precision_loss)] // nobody has 2^53 agents
fn write_head(json: &mut Json, view: &View, facts: &Facts, approvers: &Approvers) {
    let agents = || view.state.agents.values();
    let registered = || agents().filter(|agent| is_registered(agent));
    let active = registered().filter(|agent| view.connected_agents.contains(&agent.id)).count();
    json.begin();
    write_version(json, facts);
    json.key("start_time").thousandths(facts.started_ms);
    if let Some(at) = view.elected_at {
        json.key("elected_time").thousandths(at);
    }
    json.key("id").string(view.master_id.as_str());
    json.key("pid").string(&facts.pid());
    json.key("hostname").string(&facts.hostname);
    json.key("capabilities").array(CAPABILITIES, Json::string);
    json.key("activated_slaves").double(active as f64);
    json.key("deactivated_slaves").double((registered().count() - active) as f64);
    json.key("unreachable_slaves").double(agents().filter(|agent| is_unreachable(agent)).count() as f64);
    json.key("leader").string(&facts.pid());
    json.key("leader_info").object(|json| {
        json.key("id").string(view.master_id.as_str());
        json.key("pid").string(&facts.pid());
        json.key("port").integer(u64::from(facts.port));
        json.key("hostname").string(&facts.hostname);
    });
    if let Some(cluster) = &facts.cluster {
        json.key("cluster").string(cluster);
    }
    if approvers.can_view_flags() {
        write_flags(json, facts);
    }
    json.key("slaves").begin_array();
}

/// Agents that were registered with the last leader and are not back.
pub(super) fn write_recovered_agents(json: &mut Json, view: &View) {
    let away = |id| !view.connected_agents.contains(id);
    let recovered = view.state.agents.values().filter(|agent| is_registered(agent) && away(&agent.id));
    json.key("recovered_slaves").array(recovered, |json, agent| write_recovered(json, agent));
}
