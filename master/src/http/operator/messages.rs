//! Agents, frameworks and tasks as messages of the v1 API.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::v1::master::response::{get_agents, get_executors, get_frameworks};
use api::v1::{
    self, Address, AgentInfo, DrainConfig, DrainInfo, DrainState, DurationInfo, Format, MasterInfo, Offer, TimeInfo,
    Url, attributes_to_wire, master_info, resource, resources_to_wire,
};
use api::{AgentId, FrameworkId, Resources};
use master_core::state::{Agent, CompletedFramework, Executor, Framework, Task};
use master_core::{OutstandingOffer, View};

use crate::http::auth::Approvers;
use crate::http::render::agent::{AGENT_PORT, is_registered, pid};
use crate::http::router::Facts;

/// What is used and offered, by role, of one agent or framework.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    used: BTreeMap<String, Resources>,
    offered: BTreeMap<String, Resources>,
    offers: Vec<Arc<OutstandingOffer>>,
}

/// The same of everybody.
#[derive(Debug, Default)]
pub(crate) struct AllShares {
    agents: BTreeMap<AgentId, Shares>,
    frameworks: BTreeMap<FrameworkId, Shares>,
}

impl AllShares {
    /// Counts.
    pub(crate) fn of(view: &View) -> Self {
        let mut all = Self::default();
        for held in view.state.holdings() {
            for shares in [
                all.agents.entry(held.agent.clone()).or_default(),
                all.frameworks.entry(held.framework.clone()).or_default(),
            ] {
                shares.used.entry(held.role.to_owned()).or_default().add_all(held.resources);
            }
        }
        for offer in view.offers.values() {
            for shares in [
                all.agents.entry(offer.agent.clone()).or_default(),
                all.frameworks.entry(offer.framework.clone()).or_default(),
            ] {
                shares.offered.entry(offer.role.clone()).or_default().add_all(&offer.resources);
                shares.offers.push(offer.clone());
            }
        }
        all
    }
}

/// Milliseconds since 1970 as the API writes them.
fn time(unix_ms: u64) -> TimeInfo {
    TimeInfo::from_unix_ms(unix_ms)
}

/// Resources with every spelling of their reservations.
fn in_full(resources: &Resources, role: Option<&str>) -> Vec<v1::Resource> {
    let allocation_role = role.map(str::to_owned);
    let mut wire = resources_to_wire(resources, &Format { refined: false, allocation_role });
    let refined = resources_to_wire(resources, &Format { refined: true, allocation_role: None });
    for (old, new) in wire.iter_mut().zip(refined) {
        old.reservations = new.reservations;
    }
    wire
}

fn by_role(shares: &BTreeMap<String, Resources>) -> Vec<v1::Resource> {
    shares.iter().flat_map(|(role, resources)| in_full(resources, Some(role))).collect()
}

fn agent_info(agent: &Agent) -> AgentInfo {
    AgentInfo {
        hostname: agent.hostname.clone(),
        port: Some(i32::from(AGENT_PORT)),
        resources: resources_to_wire(&agent.resources, &Format { refined: true, allocation_role: None }),
        attributes: attributes_to_wire(&agent.attributes),
        id: Some(agent.id.clone()),
        // Its tasks outlive it.
        checkpoint: Some(true),
        ..AgentInfo::default()
    }
}

/// An agent of GET_AGENTS and AGENT_ADDED, as far as its roles may be seen.
pub(crate) fn agent(view: &View, shares: &AllShares, agent: &Agent, approvers: &Approvers) -> get_agents::Agent {
    let none = Shares::default();
    let own = shares.agents.get(&agent.id).unwrap_or(&none);
    let mut shown = get_agents::Agent {
        agent_info: agent_info(agent),
        active: view.connected_agents.contains(&agent.id) && !agent.deactivated,
        deactivated: Some(agent.deactivated),
        version: api::MESOS_VERSION.to_owned(),
        pid: Some(pid(agent)),
        registered_time: Some(time(agent.registered_at)),
        reregistered_time: agent.reregistered_at.map(time),
        total_resources: in_full(&agent.resources, None),
        allocated_resources: by_role(&own.used),
        offered_resources: by_role(&own.offered),
        capabilities: agent.capabilities.to_wire(),
        resource_providers: Vec::new(),
        drain_info: agent.drain.as_ref().map(|drain| DrainInfo {
            state: if drain.drained { DrainState::Drained } else { DrainState::Draining }.into(),
            config: DrainConfig {
                max_grace_period: drain.max_grace_ms.map(|ms| DurationInfo {
                    nanoseconds: i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX),
                }),
                mark_gone: Some(drain.mark_gone),
            },
        }),
        estimated_drain_start_time: agent.drain.as_ref().map(|drain| time(drain.since)),
    };
    hide_roles(&mut shown, approvers);
    shown
}

/// Leaves out what is reserved for or allocated to roles that may not be seen.
pub(crate) fn hide_roles(agent: &mut get_agents::Agent, approvers: &Approvers) {
    if approvers.sees_all() {
        return;
    }
    let lists = [
        &mut agent.agent_info.resources,
        &mut agent.total_resources,
        &mut agent.allocated_resources,
        &mut agent.offered_resources,
    ];
    for resources in lists {
        resources.retain(|resource| shows(resource, approvers));
    }
}

fn shows(resource: &v1::Resource, approvers: &Approvers) -> bool {
    let reserved = resource.reservations.last().and_then(|reservation| reservation.role.as_deref());
    let reserved = reserved.or(resource.role.as_deref()).filter(|role| *role != "*");
    let allocated = resource.allocation_info.as_ref().and_then(|info| info.role.as_deref());
    reserved.into_iter().chain(allocated).all(|role| approvers.can_view_role(role))
}

/// Agents that were registered with the last leader and are not back.
pub(crate) fn recovered_agents(view: &View, approvers: &Approvers) -> impl Iterator<Item = AgentInfo> {
    let agents = view.state.agents.values();
    let away = agents.filter(|agent| is_registered(agent) && !view.connected_agents.contains(&agent.id));
    away.map(|agent| {
        let mut info = agent_info(agent);
        info.resources.retain(|resource| shows(resource, approvers));
        info
    })
}

/// A framework of GET_FRAMEWORKS, FRAMEWORK_ADDED and FRAMEWORK_UPDATED.
pub(crate) fn framework(view: &View, shares: &AllShares, framework: &Framework) -> get_frameworks::Framework {
    let none = Shares::default();
    let own = shares.frameworks.get(&framework.id).unwrap_or(&none);
    let connected = view.connected_frameworks.contains(&framework.id);
    get_frameworks::Framework {
        framework_info: framework.info.as_ref().clone(),
        active: connected,
        connected,
        recovered: !connected && framework.disconnected.is_none(),
        registered_time: Some(time(framework.registered_at)),
        reregistered_time: Some(time(framework.reregistered_at.unwrap_or(framework.registered_at))),
        unregistered_time: None,
        offers: own.offers.iter().map(|one| offer(view, one)).collect(),
        inverse_offers: Vec::new(),
        allocated_resources: by_role(&own.used),
        offered_resources: by_role(&own.offered),
        offer_constraints: Some(framework.offer_constraints.as_deref().cloned().unwrap_or_default()),
    }
}

/// The same when it comes, returns or changes. Offers follow that, they are not part of it.
pub(crate) fn framework_event(view: &View, shares: &AllShares, one: &Framework) -> get_frameworks::Framework {
    get_frameworks::Framework {
        unregistered_time: Some(time(0)),
        offers: Vec::new(),
        offered_resources: Vec::new(),
        offer_constraints: one.offer_constraints.as_deref().cloned(),
        ..framework(view, shares, one)
    }
}

/// As the master keeps it: not as its framework would be shown it.
fn offer(view: &View, offer: &OutstandingOffer) -> Offer {
    let agent = view.state.agents.get(&offer.agent);
    Offer {
        id: offer.id.clone(),
        framework_id: offer.framework.clone(),
        agent_id: offer.agent.clone(),
        hostname: agent.map(|agent| agent.hostname.clone()).unwrap_or_default(),
        url: agent.map(|agent| Box::new(url(agent))),
        resources: resources_to_wire(
            &offer.resources,
            &Format { refined: true, allocation_role: Some(offer.role.clone()) },
        ),
        attributes: agent.map(|agent| attributes_to_wire(&agent.attributes)).unwrap_or_default(),
        allocation_info: Some(resource::AllocationInfo { role: Some(offer.role.clone()) }),
        ..Offer::default()
    }
}

fn url(agent: &Agent) -> Url {
    Url {
        scheme: "http".to_owned(),
        address: Address {
            hostname: Some(agent.hostname.clone()),
            ip: Some(agent.address.clone()),
            port: i32::from(AGENT_PORT),
        },
        path: Some("/slave(1)".to_owned()),
        ..Url::default()
    }
}

/// A framework that was removed.
pub(crate) fn completed_framework(framework: &CompletedFramework) -> get_frameworks::Framework {
    get_frameworks::Framework {
        framework_info: framework.info.as_ref().clone(),
        registered_time: Some(time(framework.registered_at)),
        reregistered_time: Some(time(framework.reregistered_at.unwrap_or(framework.registered_at))),
        unregistered_time: Some(time(framework.removed_at)),
        offer_constraints: Some(v1::scheduler::OfferConstraints::default()),
        ..get_frameworks::Framework::default()
    }
}

/// A task of GET_TASKS and TASK_ADDED.
pub(crate) fn task(task: &Task) -> v1::Task {
    let info = task.info.get();
    let statuses: Vec<v1::TaskStatus> = task.statuses.iter().map(v1::Packed::get).collect();
    let last = statuses.last();
    v1::Task {
        name: info.name,
        task_id: info.task_id,
        framework_id: task.framework.clone(),
        executor_id: task.executor.clone(),
        agent_id: task.agent.clone(),
        state: task.state.into(),
        resources: resources_to_wire(
            &task.resources,
            &Format { refined: true, allocation_role: Some(task.role.clone()) },
        ),
        status_update_state: last.map(|status| status.state),
        status_update_uuid: last.and_then(|status| status.uuid.clone()),
        statuses,
        labels: info.labels,
        discovery: info.discovery,
        container: info.container,
        health_check: info.health_check,
        kill_policy: info.kill_policy,
        user: task.own_user.as_deref().map(str::to_owned),
        limits: info.limits,
    }
}

/// An executor of GET_EXECUTORS.
pub(crate) fn executor(executor: &Executor) -> get_executors::Executor {
    let mut executor_info = executor.info.get();
    executor_info.framework_id = Some(executor.framework.clone());
    get_executors::Executor { executor_info, agent_id: executor.agent.clone() }
}

/// This master.
pub(crate) fn master(view: &View, facts: &Facts) -> MasterInfo {
    let capability = |kind: master_info::capability::Type| master_info::Capability { r#type: Some(kind.into()) };
    let ip = facts.ip.parse::<std::net::Ipv4Addr>().map_or(0, |ip| u32::from_le_bytes(ip.octets()));
    MasterInfo {
        id: view.master_id.to_string(),
        ip,
        port: u32::from(facts.port),
        pid: Some(facts.pid()),
        hostname: Some(facts.hostname.clone()),
        version: Some(facts.mesos_version.to_owned()),
        address: Some(Address {
            hostname: Some(facts.hostname.clone()),
            ip: Some(facts.ip.clone()),
            port: i32::from(facts.port),
        }),
        capabilities: vec![
            capability(master_info::capability::Type::AgentUpdate),
            capability(master_info::capability::Type::AgentDraining),
            capability(master_info::capability::Type::QuotaV2),
        ],
        ..MasterInfo::default()
    }
}
