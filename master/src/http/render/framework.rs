//! FRAMEWORK of the v0 endpoints: its description, and its tasks in pieces.

use std::collections::VecDeque;
use std::sync::Arc;

use api::v1::FrameworkInfo;
use api::v1::framework_info::capability::Type as Capability;
use api::v1::scheduler::OfferConstraints;
use api::{FrameworkId, TaskState};
use master_core::state::{CompletedFramework, Executor, Framework, Task};
use master_core::{OutstandingOffer, View};

use super::document::Document;
use super::json::{Json, Place};
use super::resources::{write_labels, write_resources};
use super::task::write_task;
use super::usage::{FrameworkUsage, Usage};
use crate::http::auth::Approvers;

/// Tasks of one segment.
const TASKS: usize = 256;

/// What the summary says of a framework, too.
pub(crate) struct Standing<'a> {
    /// Which.
    pub(crate) id: &'a FrameworkId,
    /// As it describes itself.
    pub(crate) info: &'a FrameworkInfo,
    /// What is used and offered.
    pub(crate) usage: &'a FrameworkUsage,
    /// Has a stream.
    pub(crate) connected: bool,
    /// Known from the log only: it has not been back since we lead.
    pub(crate) recovered: bool,
}

impl Standing<'_> {
    /// Writes the members that come first everywhere.
    pub(crate) fn write(&self, json: &mut Json) {
        json.key("id").string(self.id.as_str());
        json.key("name").string(&self.info.name);
        json.key("used_resources");
        self.usage.used.write(json);
        json.key("offered_resources");
        self.usage.offered.write(json);
        json.key("capabilities").array(&self.info.capabilities, |json, one| json.string(one.r#type().as_str_name()));
        json.key("hostname").string(self.info.hostname.as_deref().unwrap_or_default());
        json.key("webui_url").string(self.info.webui_url.as_deref().unwrap_or_default());
        json.key("active").bool(self.connected);
        json.key("connected").bool(self.connected);
        json.key("recovered").bool(self.recovered);
    }
}

/// Of a framework that is not completed.
pub(crate) fn standing<'a>(view: &View, usage: &'a FrameworkUsage, framework: &'a Framework) -> Standing<'a> {
    let connected = view.connected_frameworks.contains(&framework.id);
    let recovered = !connected && framework.disconnected.is_none();
    Standing { id: &framework.id, info: &framework.info, usage, connected, recovered }
}

#[derive(Clone, Copy)]
struct Times {
    registered: u64,
    reregistered: Option<u64>,
    unregistered: Option<u64>,
}

/// The members between the standing and the tasks.
fn write_middle(json: &mut Json, info: &FrameworkInfo, usage: &FrameworkUsage, times: Times) {
    json.key("user").string(&info.user);
    json.key("failover_timeout").double(info.failover_timeout.unwrap_or(0.0));
    json.key("checkpoint").bool(info.checkpoint.unwrap_or(false));
    json.key("registered_time").thousandths(times.registered);
    json.key("unregistered_time").thousandths(times.unregistered.unwrap_or(0));
    if let Some(principal) = &info.principal {
        json.key("principal").string(principal);
    }
    let mut both = usage.used.clone();
    both.add_amounts(&usage.offered);
    json.key("resources");
    both.write(json);
    if let Some(at) = times.reregistered {
        json.key("reregistered_time").thousandths(at);
    }
    if info.has(Capability::MultiRole) {
        json.key("roles").array(&info.roles, |json, role| json.string(role));
    } else {
        json.key("role").string(info.effective_roles().first().map_or("*", String::as_str));
    }
}

/// The members after the tasks.
fn write_tail(
    json: &mut Json,
    info: &FrameworkInfo,
    offers: &[Arc<OutstandingOffer>],
    executors: &[Arc<Executor>],
    constraints: Option<&OfferConstraints>,
) {
    json.key("offers").array(offers, |json, offer| write_offer(json, offer));
    json.key("executors").array(executors, |json, executor| write_executor(json, executor));
    write_labels(json, info.labels.as_ref());
    match constraints {
        Some(constraints) => json.key("offer_constraints").serialize(constraints),
        None => json.key("offer_constraints").object(|_| ()),
    }
}

fn write_offer(json: &mut Json, offer: &OutstandingOffer) {
    json.object(|json| {
        json.key("id").string(offer.id.as_str());
        json.key("framework_id").string(offer.framework.as_str());
        json.key("allocation_info").object(|json| json.key("role").string(&offer.role));
        json.key("slave_id").string(offer.agent.as_str());
        json.key("resources");
        write_resources(json, &offer.resources);
    });
}

fn write_executor(json: &mut Json, one: &Executor) {
    let executor = one.info.get();
    json.object(|json| {
        json.key("executor_id").string(executor.executor_id.as_str());
        json.key("name").string(executor.name.as_deref().unwrap_or_default());
        json.key("framework_id").string(one.framework.as_str());
        json.key("command").object(|json| {
            let Some(command) = &executor.command else { return };
            if let Some(shell) = command.shell {
                json.key("shell").bool(shell);
            }
            if let Some(value) = &command.value {
                json.key("value").string(value);
            }
            json.key("argv").array(&command.arguments, |json, argument| json.string(argument));
            if let Some(environment) = &command.environment {
                json.key("environment").serialize(environment);
            }
            json.key("uris").array(&command.uris, |json, uri| {
                json.object(|json| {
                    json.key("value").string(&uri.value);
                    json.key("executable").bool(uri.executable.unwrap_or(false));
                });
            });
        });
        json.key("resources");
        write_resources(json, &one.resources);
        json.key("role").string(&one.role);
        write_labels(json, executor.labels.as_ref());
        if executor.r#type.is_some() {
            json.key("type").string(executor.r#type().as_str_name());
        }
        json.key("slave_id").string(one.agent.as_str());
    });
}

/// Adds a framework to a list of frameworks.
pub(crate) fn add_framework(
    document: &mut Document,
    view: &Arc<View>,
    usage: &Arc<Usage>,
    framework: &Arc<Framework>,
    place: Place,
    approvers: &Approvers,
) {
    let (pictured, counted, one) = (view.clone(), usage.clone(), framework.clone());
    document.add(1, place, move |json| {
        json.begin();
        let usage = counted.framework(&one.id);
        standing(&pictured, &usage, &one).write(json);
        let times = Times { registered: one.registered_at, reregistered: one.reregistered_at, unregistered: None };
        write_middle(json, &one.info, &usage, times);
        json.key("tasks").begin_array();
    });
    let visible = Visible { approvers: approvers.clone(), user: framework.info.user.clone() };
    add_tasks(document, framework, is_reachable, &visible);
    document.add(1, Place::First, |json| {
        json.end_array();
        json.key("unreachable_tasks").begin_array();
    });
    add_tasks(document, framework, is_unreachable, &visible);
    document.add(1, Place::First, |json| {
        json.end_array();
        json.key("completed_tasks").begin_array();
    });
    add_completed(document, framework, |framework| &framework.completed_tasks, &visible);
    let (counted, one) = (usage.clone(), framework.clone());
    document.add(1, Place::First, move |json| {
        json.end_array();
        let constraints = one.offer_constraints.as_deref();
        write_tail(json, &one.info, &counted.framework(&one.id).offers, &executors(&one, &visible), constraints);
        json.end();
    });
}

/// Adds a removed framework to a list of frameworks.
pub(crate) fn add_completed_framework(
    document: &mut Document,
    framework: &Arc<CompletedFramework>,
    place: Place,
    approvers: &Approvers,
) {
    let one = framework.clone();
    document.add(1, place, move |json| {
        json.begin();
        let usage = FrameworkUsage::default();
        Standing { id: &one.id, info: &one.info, usage: &usage, connected: false, recovered: false }.write(json);
        let (registered, reregistered) = (one.registered_at, one.reregistered_at);
        write_middle(json, &one.info, &usage, Times { registered, reregistered, unregistered: Some(one.removed_at) });
        json.key("tasks").array::<()>([], |_, ()| ());
        json.key("unreachable_tasks").array::<()>([], |_, ()| ());
        json.key("completed_tasks").begin_array();
    });
    let visible = Visible { approvers: approvers.clone(), user: framework.info.user.clone() };
    add_completed(document, framework, |framework| &framework.completed_tasks, &visible);
    let one = framework.clone();
    document.add(1, Place::First, move |json| {
        json.end_array();
        write_tail(json, &one.info, &[], &[], None);
        json.end();
    });
}

/// Which tasks of a framework are shown.
#[derive(Clone)]
pub(crate) struct Visible {
    /// To whom.
    pub(crate) approvers: Approvers,
    /// The framework's user.
    pub(crate) user: String,
}

impl Visible {
    /// May this one be seen? Not unless its framework may.
    pub(crate) fn shows(&self, task: &Task) -> bool {
        self.approvers.sees_all()
            || self.approvers.can_view_framework(&self.user)
                && self.approvers.can_view_task(task.own_user.as_deref(), &self.user)
    }
}

/// Is its agent away for too long?
pub(crate) fn is_unreachable(task: &Task) -> bool {
    task.state == TaskState::Unreachable
}

/// The opposite.
pub(crate) fn is_reachable(task: &Task) -> bool {
    !is_unreachable(task)
}

/// Those tasks that have not ended, in segments.
fn add_tasks(document: &mut Document, framework: &Arc<Framework>, wanted: fn(&Task) -> bool, visible: &Visible) {
    let mut place = Place::First;
    let mut start = None;
    let mut count = 0;
    let mut add = |start: &mut Option<api::TaskId>, count: &mut usize| {
        let Some(from) = start.take() else { return };
        let (framework, visible, taken) = (framework.clone(), visible.clone(), *count);
        document.add(taken, place, move |json| {
            let tasks = framework.tasks.range(from..).map(|(_, task)| task);
            tasks
                .filter(|task| wanted(task) && visible.shows(task))
                .take(taken)
                .for_each(|task| write_task(json, task));
        });
        place = Place::Next;
        *count = 0;
    };
    for (id, task) in &framework.tasks {
        if wanted(task) && visible.shows(task) {
            start.get_or_insert_with(|| id.clone());
            count += 1;
            if count == TASKS {
                add(&mut start, &mut count);
            }
        }
    }
    add(&mut start, &mut count);
}

/// Ended tasks, in segments.
fn add_completed<T: Send + Sync + 'static>(
    document: &mut Document,
    framework: &Arc<T>,
    tasks: fn(&T) -> &VecDeque<Arc<Task>>,
    visible: &Visible,
) {
    let total = tasks(framework).len();
    let mut place = Place::First;
    for from in (0..total).step_by(TASKS) {
        let until = (from + TASKS).min(total);
        let any = visible.approvers.sees_all() || tasks(framework).range(from..until).any(|task| visible.shows(task));
        let (framework, visible) = (framework.clone(), visible.clone());
        document.add(until - from, place, move |json| {
            let tasks = tasks(&framework).range(from..until);
            tasks.filter(|task| visible.shows(task)).for_each(|task| write_task(json, task));
        });
        if any {
            place = Place::Next;
        }
    }
}

/// Those that run.
fn executors(framework: &Framework, visible: &Visible) -> Vec<Arc<Executor>> {
    let shown = |one: &&Arc<Executor>| visible.approvers.can_view_executor(one.own_user.as_deref(), &visible.user);
    framework.executors.values().filter(shown).cloned().collect()
}
