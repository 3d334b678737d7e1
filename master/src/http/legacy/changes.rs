//! What operators change through the v0 endpoints: bodies to [`OperatorWrite`]s, with Mesos's order of checks
//! and its texts, and then to the driver.

mod allowed;

use std::collections::BTreeMap;

use api::{AgentId, FrameworkId, Milli, Resources};
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::{Method, StatusCode};
use master_core::io::operator::{MachineId, OperatorWrite, Unavailability, Window};
use master_core::operation::ResourceOperation;
use serde_json::Value;

use super::fields::{Fields, parse};
use super::query::Query;
use super::{Asked, body_of, only_leader};
use crate::driver::Message;
use crate::http::auth::forbidden;
use crate::http::operator::may_tear_down;
use crate::http::router::Api;
use crate::http::scheduler::plain;
use crate::http::{overloaded, text};

pub(crate) use allowed::{allows_machine, is_allowed};

/// What can be done to resources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OperationKind {
    Reserve,
    Unreserve,
    Create,
    Destroy,
}

/// What keeps a body from being a change: the text of the 400.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Invalid(pub(crate) String);

/// Makes a change, or says why it is none.
pub(crate) async fn perform(api: &Api, asked: &Asked, write: Result<OperatorWrite, Invalid>) -> Response {
    if let Err(response) = only_leader(api, &asked.extensions) {
        return response;
    }
    let mut write = match write {
        Ok(write) => write,
        Err(Invalid(reason)) => return text(StatusCode::BAD_REQUEST, reason),
    };
    if !is_allowed(&asked.approvers, &write) {
        return forbidden();
    }
    if let OperatorWrite::Teardown(framework) = &write
        && let Err(response) = may_tear_down(api, &asked.approvers, framework).await
    {
        return response;
    }
    let mut prefix = None;
    if let OperatorWrite::Apply { principal, .. } = &mut write {
        *principal = asked.approvers.principal().map(str::to_owned);
    }
    // Mesos names the path here, and only here.
    if let OperatorWrite::RemoveQuota { role } = &write
        && asked.method == Method::DELETE
    {
        prefix = Some((format!("Failed to remove quota for path '/master/quota/{role}'"), "Failed to remove quota"));
    }
    let answer = api.driver.ask(|reply| Message::Operator { write: Box::new(write), reply }).await;
    match (answer, prefix) {
        (Ok(master_core::Response::Refused { status, text: reason }), Some((path, plainly))) => {
            let reason = reason.strip_prefix(plainly).map_or_else(|| reason.clone(), |rest| format!("{path}{rest}"));
            plain(master_core::Response::Refused { status, text: reason })
        }
        (Ok(answer), _) => plain(answer),
        (Err(error), _) => overloaded(error),
    }
}

/// The body of PUT /weights.
pub(crate) fn read_weights(body: &[u8]) -> Result<OperatorWrite, Invalid> {
    let shown = String::from_utf8_lossy(body);
    let value = array(body)
        .map_err(|error| Invalid(format!("Failed to parse update weights request JSON '{shown}': {error}")))?;
    let mut weights = Vec::new();
    for element in &value {
        let read = || -> Result<(String, f64), String> {
            let mut fields = Fields::of(element)?;
            let weight = fields.required_number("weight")?;
            let role = fields.string("role")?.unwrap_or_default();
            fields.done()?;
            Ok((role, weight))
        };
        weights.push(read().map_err(|error| {
            Invalid(format!("Failed to convert weights JSON array to protobuf '{shown}': {error}"))
        })?);
    }
    validate_weights(weights).map(OperatorWrite::UpdateWeights)
}

/// The body of POST /quota.
pub(crate) fn read_set_quota(body: &[u8]) -> Result<OperatorWrite, Invalid> {
    let shown = String::from_utf8_lossy(body);
    let value =
        object(body).map_err(|error| Invalid(format!("Failed to parse set quota request JSON '{shown}': {error}")))?;
    let read = || -> Result<(String, bool, Vec<Guarantee>), String> {
        let mut fields = Fields::of(&value)?;
        let role = fields.string("role")?.unwrap_or_default();
        let force = fields.bool("force")?.unwrap_or(false);
        let mut guarantees = Vec::new();
        for mut resource in fields.list("guarantee")? {
            guarantees.push(Guarantee::read(&mut resource)?);
            fields.absorb(resource);
        }
        fields.done()?;
        Ok((role, force, guarantees))
    };
    let (role, force, guarantees) =
        read().map_err(|error| Invalid(format!("Failed to validate set quota request JSON '{shown}': {error}")))?;
    let guarantee = validate_guarantees(&role, guarantees)
        .map_err(|error| Invalid(format!("Failed to validate set quota request: {error}")))?;
    Ok(OperatorWrite::SetQuota { role, guarantee, force })
}

/// The path of DELETE /quota/….
pub(crate) fn read_remove_quota(path: &str) -> Result<OperatorWrite, Invalid> {
    let role = path.strip_prefix("/master/quota/").unwrap_or_default();
    if role.is_empty() {
        let reason = "expected 3 tokens, found 2 tokens";
        return Err(Invalid(format!("Failed to parse remove quota request for path '{path}': {reason}")));
    }
    Ok(OperatorWrite::RemoveQuota { role: role.to_owned() })
}

/// A path as Mesos sees it, whether or not the prefix was left out.
pub(crate) fn quota_path(path: &str) -> String {
    if path.starts_with("/master/") { path.to_owned() } else { format!("/master{path}") }
}

/// The body of POST /maintenance/schedule.
pub(crate) fn read_schedule(body: &[u8]) -> Result<OperatorWrite, Invalid> {
    let value = object(body).map_err(Invalid)?;
    let windows = read_windows(&value).map_err(Invalid)?;
    validate_windows(&windows)?;
    Ok(OperatorWrite::UpdateMaintenanceSchedule(lower(windows)))
}

/// The body of POST /machine/down.
pub(crate) fn read_machines_down(body: &[u8]) -> Result<OperatorWrite, Invalid> {
    machines(body).map(OperatorWrite::StartMaintenance)
}

/// The body of POST /machine/up.
pub(crate) fn read_machines_up(body: &[u8]) -> Result<OperatorWrite, Invalid> {
    machines(body).map(OperatorWrite::StopMaintenance)
}

/// The form of POST /reserve and the like.
fn read_operation(kind: OperationKind, body: &[u8]) -> Result<OperatorWrite, Invalid> {
    let form = form(body)?;
    let agent = form_field(&form, "slaveId")?;
    let name = if matches!(kind, OperationKind::Create | OperationKind::Destroy) { "volumes" } else { "resources" };
    // Mesos says it so in one place only.
    let parsing = if kind == OperationKind::Reserve { "Error parsing" } else { "Error in parsing" };
    let read = |name: &str, text: &str| {
        resources(text)
            .map_err(|error| Invalid(format!("{parsing} '{name}' query parameter in the request body: {error}")))
    };
    let resources = read(name, form_field(&form, name)?)?;
    let source = match form.get("source").filter(|_| kind == OperationKind::Reserve) {
        Some(text) => read("source", text)?,
        None => Resources::default(),
    };
    let operation = match kind {
        OperationKind::Reserve => ResourceOperation::Reserve { source, resources },
        OperationKind::Unreserve => ResourceOperation::Unreserve { resources },
        OperationKind::Create => ResourceOperation::Create { volumes: resources },
        OperationKind::Destroy => ResourceOperation::Destroy { volumes: resources },
    };
    Ok(OperatorWrite::Apply { agent: AgentId::from(agent.to_owned()), operation, principal: None })
}

/// The form of POST /teardown.
fn read_teardown(body: &[u8]) -> Result<OperatorWrite, Invalid> {
    let form = form(body)?;
    Ok(OperatorWrite::Teardown(FrameworkId::from(form_field(&form, "frameworkId")?.to_owned())))
}

pub(super) async fn reserve(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    post(&api, &asked, request, |body| read_operation(OperationKind::Reserve, body)).await
}

pub(super) async fn unreserve(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    post(&api, &asked, request, |body| read_operation(OperationKind::Unreserve, body)).await
}

pub(super) async fn create_volumes(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    post(&api, &asked, request, |body| read_operation(OperationKind::Create, body)).await
}

pub(super) async fn destroy_volumes(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    post(&api, &asked, request, |body| read_operation(OperationKind::Destroy, body)).await
}

pub(super) async fn teardown(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    post(&api, &asked, request, read_teardown).await
}

async fn post(
    api: &Api,
    asked: &Asked,
    request: Request,
    read: impl FnOnce(&[u8]) -> Result<OperatorWrite, Invalid>,
) -> Response {
    // A follower does not judge methods: the leader will.
    if let Err(response) = only_leader(api, &asked.extensions) {
        return response;
    }
    if let Err(response) = asked.only(&[Method::POST]) {
        return response;
    }
    match body_of(request).await {
        Ok(body) => perform(api, asked, read(&body)).await,
        Err(response) => response,
    }
}

fn array(body: &[u8]) -> Result<Vec<Value>, String> {
    if let Value::Array(values) = parse(body)? { Ok(values) } else { Err("Unexpected JSON type parsed".to_owned()) }
}

fn object(body: &[u8]) -> Result<Value, String> {
    let value = parse(body)?;
    if value.is_object() { Ok(value) } else { Err("Unexpected JSON type parsed".to_owned()) }
}

fn form(body: &[u8]) -> Result<Query, Invalid> {
    let body = String::from_utf8_lossy(body);
    Query::parse(body.trim_end()).map_err(|error| Invalid(format!("Unable to decode query string: {error}")))
}

fn form_field<'a>(form: &'a Query, name: &str) -> Result<&'a str, Invalid> {
    let missing = || Invalid(format!("Missing '{name}' query parameter in the request body"));
    form.get(name).ok_or_else(missing)
}

fn resources(text: &str) -> Result<Resources, String> {
    let elements = array(text.as_bytes())?;
    for element in &elements {
        let mut fields = Fields::of(element)?;
        fields.require_strings(&["name", "type"])?;
        fields.done()?;
    }
    let wire: Vec<api::v1::Resource> =
        serde_json::from_value(Value::Array(elements)).map_err(|error| error.to_string())?;
    api::v1::resources_from_wire(&wire).map_err(|error| error.to_string())
}

/// Checks of both PUT /weights and UPDATE_WEIGHTS.
pub(crate) fn validate_weights(weights: Vec<(String, f64)>) -> Result<Vec<(String, f64)>, Invalid> {
    let mut valid = Vec::new();
    for (role, weight) in weights {
        let role = role.trim().to_owned();
        if let Err(error) = check_role(&role) {
            let reason = format!("Failed to validate update weights request JSON: Invalid role '{role}': {error}");
            return Err(Invalid(reason));
        }
        if weight.is_nan() || weight <= 0.0 {
            return Err(Invalid(format!(
                "Failed to validate update weights request JSON for role '{role}': Invalid weight '{weight}': Weights must be positive"
            )));
        }
        valid.push((role, weight));
    }
    Ok(valid)
}

/// Mesos's rules for names of roles.
pub(crate) fn check_role(role: &str) -> Result<(), String> {
    if role == "*" {
        return Ok(());
    }
    if role.is_empty() {
        return Err("Role names cannot be the empty string".to_owned());
    }
    if role.starts_with('/') {
        return Err(format!("Role '{role}' cannot start with a slash"));
    }
    if role.ends_with('/') {
        return Err(format!("Role '{role}' cannot end with a slash"));
    }
    for component in role.split('/') {
        if component.is_empty() {
            return Err(format!("Role '{role}' cannot contain two adjacent slashes"));
        }
        if component == "." || component == ".." {
            return Err(format!("Role component '{component}' is invalid because it is a reserved name"));
        }
        if component == "*" {
            return Err("Role component '*' is invalid because it is a reserved name".to_owned());
        }
        if component.starts_with('-') {
            return Err(format!("Role component '{component}' is invalid because it begins with a dash"));
        }
        if component.chars().any(|c| c.is_ascii_whitespace() || c == '\u{8}' || c == '\u{b}') {
            return Err(format!("Role component '{component}' is invalid because it contains backspace or whitespace"));
        }
    }
    Ok(())
}

/// A resource of a quota request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Guarantee {
    /// `cpus`.
    pub(crate) name: String,
    /// `SCALAR`, if it is right.
    pub(crate) kind: String,
    /// How much.
    pub(crate) value: f64,
    /// Old form of a reservation.
    pub(crate) role: Option<String>,
    /// Fields that a guarantee must not have, and has.
    pub(crate) extras: Vec<&'static str>,
}

impl Guarantee {
    fn read(fields: &mut Fields<'_>) -> Result<Self, String> {
        fields.require_strings(&["name", "type"])?;
        let value = match fields.optional("scalar")? {
            Some(mut scalar) => {
                let value = scalar.required_number("value")?;
                fields.absorb(scalar);
                value
            }
            None => 0.0,
        };
        let extras = ["reservation", "reservations", "disk", "revocable", "shared"];
        Ok(Self {
            name: fields.string("name")?.unwrap_or_default(),
            kind: fields.string("type")?.unwrap_or_default(),
            value,
            role: fields.string("role")?.filter(|role| role != "*"),
            extras: extras.into_iter().filter(|name| fields.has(name)).collect(),
        })
    }
}

/// Checks of both POST /quota and SET_QUOTA.
pub(crate) fn validate_guarantees(role: &str, guarantees: Vec<Guarantee>) -> Result<BTreeMap<String, Milli>, String> {
    check_role(role).map_err(|error| format!("QuotaInfo with invalid role: {error}"))?;
    if guarantees.is_empty() {
        return Err("QuotaInfo with empty 'guarantee'".to_owned());
    }
    let mut valid = BTreeMap::new();
    for guarantee in guarantees {
        let name = &guarantee.name;
        let has = |extra: &str| guarantee.extras.contains(&extra);
        let value = guarantee.value;
        let invalid = |what: &str, reason: &str| {
            format!("QuotaInfo with invalid resource: Resource '{what}:{value}' is invalid: {reason}")
        };
        if has("reservation") && guarantee.role.is_none() {
            return Err(invalid(name, "Invalid reservation: role \"*\" cannot be dynamically reserved"));
        }
        if guarantee.kind == "SCALAR" && value < 0.0 {
            return Err(invalid(name, "Invalid scalar resource: value <= 0"));
        }
        if has("disk") && name != "disk" {
            return Err(invalid(&format!("{name}[]"), &format!("DiskInfo should not be set for {name} resource")));
        }
        if guarantee.role.is_some() || has("reservation") || has("reservations") {
            return Err("QuotaInfo must not contain any ReservationInfo".to_owned());
        }
        if has("disk") {
            return Err("QuotaInfo must not contain DiskInfo".to_owned());
        }
        if has("revocable") {
            return Err("QuotaInfo must not contain RevocableInfo".to_owned());
        }
        if guarantee.kind != "SCALAR" {
            return Err("QuotaInfo must not include non-scalar resources".to_owned());
        }
        if valid.contains_key(name) {
            return Err(format!("QuotaInfo contains duplicate resource name '{name}'"));
        }
        let amount =
            Milli::from_units(value).ok_or_else(|| invalid(name, "Invalid scalar resource: value too large"))?;
        valid.insert(name.clone(), amount);
    }
    Ok(valid)
}

fn read_windows(value: &Value) -> Result<Vec<Window>, String> {
    let mut fields = Fields::of(value)?;
    let mut windows = Vec::new();
    for mut window in fields.list("windows")? {
        let mut machines = Vec::new();
        for machine in window.list("machine_ids")? {
            machines.push(read_machine(&machine)?);
        }
        let (mut start, mut duration) = (0, None);
        if let Some(mut unavailability) = window.required("unavailability")? {
            start = unavailability.required_nanoseconds("start")?;
            duration = unavailability.nanoseconds("duration")?;
            window.absorb(unavailability);
        }
        fields.absorb(window);
        windows.push(Window { machines, unavailability: Unavailability { start, duration } });
    }
    fields.done()?;
    Ok(windows)
}

/// As written: texts show names so. [`lower`] is for what is kept.
fn read_machine(fields: &Fields<'_>) -> Result<MachineId, String> {
    let (hostname, ip) = (fields.string("hostname")?, fields.string("ip")?);
    Ok(MachineId { hostname: hostname.unwrap_or_default(), ip: ip.unwrap_or_default() })
}

/// Host names are kept in lower case.
pub(crate) fn lower(mut windows: Vec<Window>) -> Vec<Window> {
    for machine in windows.iter_mut().flat_map(|window| &mut window.machines) {
        machine.hostname.make_ascii_lowercase();
    }
    windows
}

/// Checks of both POST /maintenance/schedule and UPDATE_MAINTENANCE_SCHEDULE that need no state.
pub(crate) fn validate_windows(windows: &[Window]) -> Result<(), Invalid> {
    let mut seen = Vec::new();
    for window in windows {
        if window.machines.is_empty() {
            return Err(Invalid("List of machines in the maintenance window is empty".to_owned()));
        }
        if window.unavailability.duration.is_some_and(|duration| duration < 0) {
            return Err(Invalid("Unavailability 'duration' is negative".to_owned()));
        }
        validate_machines(&window.machines, &mut seen)?;
    }
    Ok(())
}

fn validate_machines(machines: &[MachineId], seen: &mut Vec<MachineId>) -> Result<(), Invalid> {
    for machine in machines {
        if *machine == MachineId::default() {
            return Err(Invalid("Both 'hostname' and 'ip' for a machine are empty".to_owned()));
        }
        if !machine.ip.is_empty() && machine.ip.parse::<std::net::IpAddr>().is_err() {
            return Err(Invalid(format!("Failed to parse IPv4: {}", machine.ip)));
        }
        let lower = MachineId::new(&machine.hostname, &machine.ip);
        if seen.contains(&lower) {
            return Err(Invalid(format!("Machine '{}' appears more than once in the schedule", machine.json())));
        }
        seen.push(lower);
    }
    Ok(())
}

fn machines(body: &[u8]) -> Result<Vec<MachineId>, Invalid> {
    let elements = array(body).map_err(Invalid)?;
    let mut machines = Vec::new();
    for element in &elements {
        let fields = Fields::of(element).map_err(Invalid)?;
        machines.push(read_machine(&fields).map_err(Invalid)?);
    }
    validate_machine_list(&machines)?;
    Ok(machines.iter().map(|machine| MachineId::new(&machine.hostname, &machine.ip)).collect())
}

/// Checks of /machine/down and /machine/up, and of START_ and STOP_MAINTENANCE, that need no state.
pub(crate) fn validate_machine_list(machines: &[MachineId]) -> Result<(), Invalid> {
    if machines.is_empty() {
        return Err(Invalid("List of machines is empty".to_owned()));
    }
    validate_machines(machines, &mut Vec::new())
}

#[cfg(test)]
mod tests;
