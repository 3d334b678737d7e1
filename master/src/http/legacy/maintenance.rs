//! `/maintenance/*` and `/machine/*`: what is planned, and what is down.

use api::AgentId;
use api::v1::TimeInfo;
use api::v1::allocator::{InverseOfferStatus, inverse_offer_status};
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::Method;
use master_core::View;
use master_core::acl::Action;
use master_core::allocator::InverseAnswer;
use master_core::io::operator::{MachineId, OperatorWrite, Window};

use super::changes::{self, Invalid, read_machines_down, read_machines_up, read_schedule};
use super::{Asked, body_of, small};
use crate::http::auth::Approvers;
use crate::http::render::json::Json;
use crate::http::router::Api;

/// Writes a machine's names.
pub(crate) fn write_machine(json: &mut Json, machine: &MachineId) {
    json.object(|json| {
        if !machine.hostname.is_empty() {
            json.key("hostname").string(&machine.hostname);
        }
        if !machine.ip.is_empty() {
            json.key("ip").string(&machine.ip);
        }
    });
}

/// Machines of the schedule that are not down yet, as far as they may be seen.
pub(crate) fn draining<'a>(view: &'a View, approvers: &Approvers) -> Vec<&'a MachineId> {
    let plan = &view.state.maintenance;
    let machines = plan.windows.iter().flat_map(|window| &window.machines);
    machines.filter(|machine| !plan.down.contains(machine) && shows(approvers, machine)).collect()
}

/// What frameworks with something on a machine said of leaving it, agent by agent.
pub(crate) fn said_of(view: &View, machine: &MachineId, approvers: &Approvers) -> Vec<InverseOfferStatus> {
    let on_it = |id: &AgentId| {
        let agent = view.state.agents.get(id);
        agent.is_some_and(|agent| machine.is(&agent.hostname, &agent.address))
    };
    let said = view.inverse_statuses.iter().filter(|(agent, _)| on_it(agent)).flat_map(|(_, said)| said);
    let visible = said.filter(|(framework, _)| {
        let user = view.state.framework(framework).map(|framework| framework.info.user.as_str());
        user.is_some_and(|user| approvers.can_view_framework(user))
    });
    let statuses = visible.map(|(framework, status)| {
        let ago = view.at.monotonic.saturating_sub(status.at);
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let answer = match status.answer {
            InverseAnswer::Accept => inverse_offer_status::Status::Accept,
            InverseAnswer::Decline => inverse_offer_status::Status::Decline,
        };
        InverseOfferStatus {
            status: answer.into(),
            framework_id: framework.clone(),
            timestamp: TimeInfo::from_unix_ms(view.at.unix_ms.saturating_sub(ago)),
        }
    });
    statuses.collect()
}

/// Machines that are down, as far as they may be seen.
pub(crate) fn down_machines<'a>(view: &'a View, approvers: &Approvers) -> Vec<&'a MachineId> {
    view.state.maintenance.down.iter().filter(|machine| shows(approvers, machine)).collect()
}

fn shows(approvers: &Approvers, machine: &MachineId) -> bool {
    changes::allows_machine(approvers, Action::GetMaintenanceStatus, machine)
}

/// The schedule, as far as it may be seen: windows without a machine that may are left out.
pub(crate) fn windows(view: &View, approvers: &Approvers) -> Vec<Window> {
    let may_see = |machine: &MachineId| changes::allows_machine(approvers, Action::GetMaintenanceSchedule, machine);
    let windows = view.state.maintenance.windows.iter().cloned().map(|mut window| {
        window.machines.retain(may_see);
        window
    });
    windows.filter(|window| !window.machines.is_empty()).collect()
}

pub(super) async fn schedule(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    if let Err(response) = asked.only(&[Method::GET, Method::POST]) {
        return response;
    }
    if asked.method == Method::POST {
        return change(&api, &asked, request, read_schedule).await;
    }
    small(&api, &asked, |view, json| {
        let windows = windows(view, &asked.approvers);
        json.object(|json| {
            if !windows.is_empty() {
                json.key("windows").array(&windows, write_window);
            }
        });
    })
    .await
}

fn write_window(json: &mut Json, window: &Window) {
    json.object(|json| {
        json.key("machine_ids").array(&window.machines, write_machine);
        json.key("unavailability").object(|json| {
            if let Some(duration) = window.unavailability.duration {
                json.key("duration").object(|json| json.key("nanoseconds").serialize(&duration));
            }
            json.key("start").object(|json| json.key("nanoseconds").serialize(&window.unavailability.start));
        });
    });
}

pub(super) async fn status(State(api): State<Api>, asked: Asked) -> Response {
    if let Err(response) = asked.only(&[Method::GET]) {
        return response;
    }
    small(&api, &asked, |view, json| {
        json.object(|json| {
            let (down, draining) = (down_machines(view, &asked.approvers), draining(view, &asked.approvers));
            if !down.is_empty() {
                json.key("down_machines").array(down, write_machine);
            }
            if !draining.is_empty() {
                json.key("draining_machines").array(draining, |json, machine| {
                    json.object(|json| {
                        json.key("id");
                        write_machine(json, machine);
                        let said = said_of(view, machine, &asked.approvers);
                        if !said.is_empty() {
                            json.key("statuses").array(&said, |json, status| json.serialize(status));
                        }
                    });
                });
            }
        });
    })
    .await
}

pub(super) async fn down(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    match asked.only(&[Method::POST]) {
        Ok(()) => change(&api, &asked, request, read_machines_down).await,
        Err(response) => response,
    }
}

pub(super) async fn up(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    match asked.only(&[Method::POST]) {
        Ok(()) => change(&api, &asked, request, read_machines_up).await,
        Err(response) => response,
    }
}

async fn change(
    api: &Api,
    asked: &Asked,
    request: Request,
    parse: fn(&[u8]) -> Result<OperatorWrite, Invalid>,
) -> Response {
    match body_of(request).await {
        Ok(body) => changes::perform(api, asked, parse(&body)).await,
        Err(response) => response,
    }
}
