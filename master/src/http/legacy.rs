//! Mesos's v0 endpoints: what dashboards, service discovery and scripts read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{AgentId, FrameworkId, Milli, Resources};
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use master_core::View;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::render::{self, Usage, seconds};
use super::router::{Api, Facts};
use super::scheduler::{plain, read_body};
use super::{json as answer, overloaded, text};
use crate::driver::Message;

/// What these endpoints say we can do.
const CAPABILITIES: [&str; 1] = ["AGENT_UPDATE"];

/// Renders off the runtime's threads: a large cluster's state takes a while.
async fn rendered(api: &Api, render: impl FnOnce(&View, &Facts) -> Value + Send + 'static) -> Response {
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let facts = api.facts.clone();
    match tokio::task::spawn_blocking(move || answer(&render(&view, &facts))).await {
        Ok(response) => response,
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "rendering failed"),
    }
}

pub(super) async fn health(State(api): State<Api>) -> Response {
    // Healthy means that the driver answers, not that this task does.
    match api.driver.ask(Message::View).await {
        Ok(_) => Response::new(Body::empty()),
        Err(error) => overloaded(error),
    }
}

pub(super) async fn version(State(api): State<Api>) -> Response {
    answer(&version_of(&api.facts))
}

fn version_of(facts: &Facts) -> Map<String, Value> {
    render::object(json!({
        "version": facts.mesos_version,
        "mesolith_version": env!("CARGO_PKG_VERSION"),
        "build_date": "",
        "build_time": 0.0,
        "build_user": "",
    }))
}

pub(super) async fn flags(State(api): State<Api>) -> Response {
    answer(&json!({ "flags": api.facts.flags }))
}

pub(super) async fn redirect(State(api): State<Api>) -> Response {
    let mut response = Response::new(Body::empty());
    if !*api.leading.borrow() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    }
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(&format!("//{}:{}", api.facts.hostname, api.facts.port)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

pub(super) async fn state(State(api): State<Api>) -> Response {
    rendered(&api, state_of).await
}

fn state_of(view: &View, facts: &Facts) -> Value {
    let usage = Usage::of(view);
    let agents: Vec<&Arc<_>> = view.state.agents.values().collect();
    let connected = |agent: &AgentId| view.connected_agents.contains(agent);
    let unreachable = agents.iter().filter(|agent| render::is_unreachable(agent)).count();
    let registered: Vec<_> = agents.iter().filter(|agent| !render::is_unreachable(agent)).collect();
    let recovered: Vec<Value> = registered
        .iter()
        .filter(|agent| !connected(&agent.id))
        .map(|agent| {
            json!({"id": agent.id, "hostname": agent.hostname, "port": 5051,
                   "attributes": render::attributes(&agent.attributes)})
        })
        .collect();
    let mut map = version_of(facts);
    map.extend(render::object(json!({
        "start_time": seconds(facts.started_ms),
        "elected_time": view.elected_at.map(seconds),
        "id": view.master_id,
        "pid": facts.pid(),
        "hostname": facts.hostname,
        "capabilities": CAPABILITIES,
        "activated_slaves": registered.iter().filter(|agent| connected(&agent.id)).count(),
        "deactivated_slaves": registered.iter().filter(|agent| !connected(&agent.id)).count(),
        "unreachable_slaves": unreachable,
        "leader": facts.pid(),
        "leader_info": {"id": view.master_id, "pid": facts.pid(), "port": facts.port, "hostname": facts.hostname},
        "flags": facts.flags,
        "slaves": registered.iter().map(|agent| Value::Object(render::agent(view, &usage, agent))).collect::<Vec<_>>(),
        "recovered_slaves": recovered,
        "frameworks": view.state.frameworks.values().map(|one| render::framework(view, &usage, one)).collect::<Vec<_>>(),
        "completed_frameworks": view.state.completed_frameworks.iter().map(|one| render::completed_framework(one)).collect::<Vec<_>>(),
        "orphan_tasks": [],
        "unregistered_frameworks": [],
    })));
    if let Some(cluster) = &facts.cluster {
        map.insert("cluster".to_owned(), json!(cluster));
    }
    Value::Object(map)
}

pub(super) async fn state_summary(State(api): State<Api>) -> Response {
    rendered(&api, summary_of).await
}

fn summary_of(view: &View, facts: &Facts) -> Value {
    let usage = Usage::of(view);
    let agents: Vec<Value> = view
        .state
        .agents
        .values()
        .filter(|agent| !render::is_unreachable(agent))
        .map(|agent| {
            let mut map = render::agent(view, &usage, agent);
            let here = || {
                let running = view.state.tasks().map(Arc::as_ref);
                let ended = view.state.frameworks.values().flat_map(|one| one.completed_tasks.iter().map(Arc::as_ref));
                running.chain(ended).filter(|task| task.agent == agent.id)
            };
            map.extend(render::count_states(here()));
            let frameworks: BTreeSet<&FrameworkId> = here().map(|task| &task.framework).collect();
            map.insert("framework_ids".to_owned(), json!(frameworks));
            Value::Object(map)
        })
        .collect();
    let frameworks: Vec<Value> = view
        .state
        .frameworks
        .values()
        .map(|framework| {
            let mut map = render::object(render::framework(view, &usage, framework));
            for long in ["tasks", "unreachable_tasks", "completed_tasks", "offers", "executors", "resources"] {
                map.remove(long);
            }
            let all = || framework.tasks.values().chain(framework.completed_tasks.iter()).map(Arc::as_ref);
            map.extend(render::count_states(all()));
            let agents: BTreeSet<&AgentId> = all().map(|task| &task.agent).collect();
            map.insert("slave_ids".to_owned(), json!(agents));
            Value::Object(map)
        })
        .collect();
    json!({ "hostname": facts.hostname, "cluster": facts.cluster, "slaves": agents, "frameworks": frameworks })
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    slave_id: Option<String>,
    framework_id: Option<String>,
    task_id: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
    order: Option<String>,
}

pub(super) async fn slaves(State(api): State<Api>, Query(filter): Query<Filter>) -> Response {
    rendered(&api, move |view, _| {
        let usage = Usage::of(view);
        let wanted = |id: &AgentId| filter.slave_id.as_ref().is_none_or(|wanted| wanted == id.as_str());
        let agents: Vec<Value> = view
            .state
            .agents
            .values()
            .filter(|agent| wanted(&agent.id) && !render::is_unreachable(agent))
            .map(|agent| Value::Object(render::agent(view, &usage, agent)))
            .collect();
        json!({ "slaves": agents, "recovered_slaves": [] })
    })
    .await
}

pub(super) async fn frameworks(State(api): State<Api>, Query(filter): Query<Filter>) -> Response {
    rendered(&api, move |view, _| {
        let usage = Usage::of(view);
        let wanted = |id: &FrameworkId| filter.framework_id.as_ref().is_none_or(|wanted| wanted == id.as_str());
        let state = &view.state;
        let known = state.frameworks.values().filter(|one| wanted(&one.id));
        let completed = state.completed_frameworks.iter().filter(|one| wanted(&one.id));
        json!({
            "frameworks": known.map(|one| render::framework(view, &usage, one)).collect::<Vec<_>>(),
            "completed_frameworks": completed.map(|one| render::completed_framework(one)).collect::<Vec<_>>(),
            "unregistered_frameworks": [],
        })
    })
    .await
}

pub(super) async fn tasks(State(api): State<Api>, Query(filter): Query<Filter>) -> Response {
    rendered(&api, move |view, _| {
        let state = &view.state;
        let frameworks = state.frameworks.values();
        let known = frameworks.flat_map(|one| one.tasks.values().chain(one.completed_tasks.iter()));
        let completed = state.completed_frameworks.iter().flat_map(|one| one.completed_tasks.iter());
        let wanted = |wanted: &Option<String>, id: &str| wanted.as_ref().is_none_or(|wanted| wanted == id);
        let mut tasks: Vec<_> = known
            .chain(completed)
            .filter(|task| {
                wanted(&filter.framework_id, task.framework.as_str()) && wanted(&filter.task_id, task.id().as_str())
            })
            .collect();
        tasks.sort_by_key(|task| (task.launched_at, task.id().clone()));
        if filter.order.as_deref() != Some("asc") {
            tasks.reverse();
        }
        let page = tasks.into_iter().skip(filter.offset.unwrap_or(0)).take(filter.limit.unwrap_or(100));
        json!({ "tasks": page.map(|task| render::task(task)).collect::<Vec<_>>() })
    })
    .await
}

pub(super) async fn roles(State(api): State<Api>) -> Response {
    rendered(&api, |view, _| roles_of(view)).await
}

fn roles_of(view: &View) -> Value {
    #[derive(Default)]
    struct Role {
        frameworks: BTreeSet<FrameworkId>,
        allocated: Resources,
        offered: Resources,
        reserved: Resources,
    }
    let mut roles: BTreeMap<String, Role> = BTreeMap::new();
    roles.entry("*".to_owned()).or_default();
    for framework in view.state.frameworks.values() {
        for role in framework.info.effective_roles() {
            roles.entry(role).or_default().frameworks.insert(framework.id.clone());
        }
    }
    for task in view.state.tasks().filter(|task| task.holds_resources()) {
        roles.entry(task.role.clone()).or_default().allocated.add_all(&task.resources);
    }
    for offer in view.offers.values() {
        roles.entry(offer.role.clone()).or_default().offered.add_all(&offer.resources);
    }
    for agent in view.state.agents.values() {
        for resource in agent.resources.iter().filter(|resource| resource.role() != "*") {
            roles.entry(resource.role().to_owned()).or_default().reserved.add(resource.clone());
        }
    }
    let quantities = |resources: &Resources| -> Map<String, Value> {
        let scalars = resources.scalars();
        scalars
            .into_iter()
            .filter(|(_, amount)| *amount != Milli::ZERO)
            .map(|(name, amount)| (name.to_owned(), json!(amount.units())))
            .collect()
    };
    let list: Vec<Value> = roles
        .into_iter()
        .map(|(name, role)| {
            let mut both = role.allocated.clone();
            both.add_all(&role.offered);
            let allocated = quantities(&role.allocated);
            json!({
                "name": name,
                "weight": 1.0,
                "quota": {"role": name, "guarantee": {}, "limit": {}, "consumed": allocated},
                "resources": quantities(&both),
                "allocated": allocated,
                "offered": quantities(&role.offered),
                "reserved": quantities(&role.reserved),
                "frameworks": role.frameworks,
            })
        })
        .collect();
    json!({ "roles": list })
}

/// `frameworkId=…` as a form.
pub(super) async fn teardown(State(api): State<Api>, request: Request) -> Response {
    #[derive(Deserialize)]
    struct Form {
        #[serde(rename = "frameworkId")]
        framework: Option<String>,
    }
    let body = match read_body(request.into_body()).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    // A form body has a query's grammar.
    let query = String::from_utf8_lossy(&body);
    let parsed = format!("/?{}", query.trim()).parse().ok().and_then(|uri| Query::<Form>::try_from_uri(&uri).ok());
    let Some(framework) = parsed.and_then(|Query(form)| form.framework).filter(|id| !id.is_empty()) else {
        return text(StatusCode::BAD_REQUEST, "Missing 'frameworkId' query parameter in the request body");
    };
    let framework = FrameworkId(framework);
    let asked = api.driver.ask(|reply| Message::Teardown { framework, reply }).await;
    asked.map_or_else(overloaded, plain)
}
