//! SLAVE of the v0 endpoints.

use std::collections::{BTreeMap, BTreeSet};

use api::Resource;
use master_core::View;
use master_core::state::{Agent, Reachability};

use super::json::Json;
use super::resources::{Amounts, write_attributes, write_full, write_resources};
use super::usage::AgentUsage;
use crate::http::auth::Approvers;

/// Mesos prints agents as `slave(1)@ip:port`.
pub(crate) const AGENT_PORT: u16 = 5051;

/// Is it counted on? Others are not shown.
pub(crate) fn is_registered(agent: &Agent) -> bool {
    agent.reachability == Reachability::Reachable
}

/// Has it been given up, for now?
pub(crate) const fn is_unreachable(agent: &Agent) -> bool {
    matches!(agent.reachability, Reachability::Unreachable { .. })
}

/// `slave(1)@ip:port`.
pub(crate) fn pid(agent: &Agent) -> String {
    format!("slave(1)@{}:{AGENT_PORT}", agent.address)
}

/// Writes the members of a SLAVE; the caller opens and closes the object.
pub(crate) fn write_agent(json: &mut Json, view: &View, usage: &AgentUsage, agent: &Agent, approvers: &Approvers) {
    json.key("id").string(agent.id.as_str());
    json.key("hostname").string(&agent.hostname);
    json.key("port").integer(u64::from(AGENT_PORT));
    json.key("attributes");
    write_attributes(json, &agent.attributes);
    json.key("pid").string(&pid(agent));
    json.key("registered_time").thousandths(agent.registered_at);
    if let Some(at) = agent.reregistered_at {
        json.key("reregistered_time").thousandths(at);
    }
    json.key("resources");
    write_resources(json, &agent.resources);
    json.key("used_resources");
    usage.used.write(json);
    json.key("offered_resources");
    usage.offered.write(json);
    json.key("reserved_resources").object(|json| {
        for role in reserved_roles(agent, approvers) {
            json.key_of(role);
            Amounts::of(agent.resources.iter().filter(|resource| resource.role() == role)).write(json);
        }
    });
    json.key("unreserved_resources");
    Amounts::of(agent.resources.iter().filter(|resource| resource.role() == "*")).write(json);
    json.key("active").bool(view.connected_agents.contains(&agent.id) && !agent.deactivated);
    json.key("deactivated").bool(agent.deactivated);
    // Tools compare it with Mesos's: our own version is in the list of nodes.
    json.key("version").string(api::MESOS_VERSION);
    json.key("capabilities").array(agent.capabilities.iter(), |json, one| json.string(one.as_str_name()));
    if let Some(drain) = &agent.drain {
        json.key("drain_info").object(|json| {
            json.key("state").string(if drain.drained { "DRAINED" } else { "DRAINING" });
            json.key("config").object(|json| {
                if let Some(grace) = drain.max_grace_ms {
                    json.key("max_grace_period").object(|json| {
                        json.key("nanoseconds").integer(grace.saturating_mul(1_000_000));
                    });
                }
                json.key("mark_gone").bool(drain.mark_gone);
            });
        });
        json.key("estimated_drain_start_time_seconds").thousandths(drain.since);
    }
}

fn reserved_roles<'a>(agent: &'a Agent, approvers: &Approvers) -> BTreeSet<&'a str> {
    let roles = agent.resources.iter().map(Resource::role);
    roles.filter(|role| *role != "*" && approvers.can_view_role(role)).collect()
}

/// What tasks use or offers hold on an agent, by the role it is for.
pub(crate) type ByRole = BTreeMap<String, api::Resources>;

/// Writes what only /slaves has: each resource in full.
pub(crate) fn write_full_resources(
    json: &mut Json,
    agent: &Agent,
    used: &ByRole,
    offered: &ByRole,
    approvers: &Approvers,
) {
    json.key("reserved_resources_full").object(|json| {
        for role in reserved_roles(agent, approvers) {
            let reserved = agent.resources.iter().filter(|resource| resource.role() == role);
            json.key_of(role).array(reserved, |json, resource| write_full(json, resource, None));
        }
    });
    let unreserved = agent.resources.iter().filter(|resource| resource.role() == "*");
    json.key("unreserved_resources_full").array(unreserved, |json, resource| write_full(json, resource, None));
    for (key, by_role) in [("used_resources_full", used), ("offered_resources_full", offered)] {
        json.key(key).begin_array();
        for (role, resources) in by_role {
            resources.iter().for_each(|resource| write_full(json, resource, Some(role)));
        }
        json.end_array();
    }
}

/// An agent of which the log knows and that has not come back yet.
pub(crate) fn write_recovered(json: &mut Json, agent: &Agent) {
    json.object(|json| {
        json.key("id").string(agent.id.as_str());
        json.key("hostname").string(&agent.hostname);
        json.key("port").integer(u64::from(AGENT_PORT));
        json.key("attributes");
        write_attributes(json, &agent.attributes);
    });
}
