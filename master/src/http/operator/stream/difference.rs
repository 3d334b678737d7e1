//! What happened between two pictures of the state, as events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::FrameworkId;
use api::v1::master::{Event, event};
use api::v1::{Packed, TaskStatus};
use master_core::View;
use master_core::state::{Agent, CompletedFramework, Framework, Task};

use crate::http::auth::Approvers;
use crate::http::operator::messages::{self, AllShares};
use crate::http::render::agent::is_registered;

/// An event, and who may see it.
#[derive(Debug)]
pub(super) struct Change {
    /// What happened.
    pub(super) event: Event,
    seen_by: SeenBy,
}

#[derive(Debug)]
enum SeenBy {
    Everybody,
    Framework(String),
    Task { own_user: Option<String>, framework_user: String },
}

impl Change {
    /// What they may see of it.
    pub(super) fn shown_to(&self, approvers: &Approvers) -> Option<Cow<'_, Event>> {
        let visible = match &self.seen_by {
            SeenBy::Everybody => true,
            SeenBy::Framework(user) => approvers.can_view_framework(user),
            SeenBy::Task { own_user, framework_user } => {
                approvers.can_view_framework(framework_user)
                    && approvers.can_view_task(own_user.as_deref(), framework_user)
            }
        };
        if !visible || self.event.agent_added.is_none() {
            return visible.then_some(Cow::Borrowed(&self.event));
        }
        let mut event = self.event.clone();
        if let Some(added) = &mut event.agent_added {
            messages::hide_roles(&mut added.agent, approvers);
        }
        Some(Cow::Owned(event))
    }
}

/// Everything that happened, in an order that makes sense: frameworks and agents come before their
/// tasks, and go after them.
pub(super) fn between(last: &View, view: &View) -> Vec<Change> {
    let mut changes = Vec::new();
    // Counted only if somebody has to be shown whole.
    let shares = std::cell::OnceCell::new();
    let shares = || shares.get_or_init(|| AllShares::of(view));
    for agent in view.state.agents.values().filter(|agent| is_registered(agent)) {
        let known = last.state.agents.get(&agent.id).filter(|known| is_registered(known));
        if known.is_none_or(|known| has_come_back(known, agent)) {
            let agent = messages::agent(view, shares(), agent, &Approvers::allow_all());
            let added = event::AgentAdded { agent };
            let event = Event { agent_added: Some(Box::new(added)), ..typed(event::Type::AgentAdded) };
            changes.push(Change { event, seen_by: SeenBy::Everybody });
        }
    }
    for framework in view.state.frameworks.values() {
        let seen_by = || SeenBy::Framework(framework.info.user.clone());
        match last.state.frameworks.get(&framework.id) {
            None => {
                let framework = messages::framework_event(view, shares(), framework);
                let added = Box::new(event::FrameworkAdded { framework });
                let event = Event { framework_added: Some(added), ..typed(event::Type::FrameworkAdded) };
                changes.push(Change { event, seen_by: seen_by() });
            }
            Some(known) if has_changed(last, view, known, framework) => {
                let framework = messages::framework_event(view, shares(), framework);
                let updated = Box::new(event::FrameworkUpdated { framework });
                let event = Event { framework_updated: Some(updated), ..typed(event::Type::FrameworkUpdated) };
                changes.push(Change { event, seen_by: seen_by() });
            }
            Some(_) => {}
        }
        let known = last.state.frameworks.get(&framework.id);
        if known.is_none_or(|known| !Arc::ptr_eq(known, framework)) {
            tasks_of(known.map(Arc::as_ref), framework, &mut changes);
        }
    }
    passing(last, view, &mut changes);
    removed(last, view, &mut changes);
    changes
}

/// Was it registered anew?
fn has_come_back(known: &Arc<Agent>, agent: &Arc<Agent>) -> bool {
    !Arc::ptr_eq(known, agent) && known.reregistered_at != agent.reregistered_at
}

fn has_changed(last: &View, view: &View, known: &Arc<Framework>, framework: &Arc<Framework>) -> bool {
    let connected = |view: &View| view.connected_frameworks.contains(&framework.id);
    if connected(last) != connected(view) {
        return true;
    }
    !Arc::ptr_eq(known, framework)
        && (known.reregistered_at != framework.reregistered_at
            || (!Arc::ptr_eq(&known.info, &framework.info) && known.info != framework.info))
}

fn tasks_of(known: Option<&Framework>, framework: &Framework, changes: &mut Vec<Change>) {
    let user = framework.info.user.as_str();
    for task in framework.tasks.values() {
        match known.and_then(|known| known.tasks.get(task.id())) {
            Some(before) if Arc::ptr_eq(before, task) => {}
            Some(before) if before.container == task.container => {
                updated(Some(before), task, &framework.id, user, changes)
            }
            _ => {
                added(task, user, changes);
                updated(None, task, &framework.id, user, changes);
            }
        }
    }
    let Some(known) = known else { return };
    // Completed ones are added at the end: those from the last one known on are new.
    let newest = known.completed_tasks.back();
    let is_known = |task: &&Arc<Task>| !newest.is_some_and(|newest| Arc::ptr_eq(newest, task));
    let mut fresh: Vec<&Arc<Task>> = framework.completed_tasks.iter().rev().take_while(is_known).collect();
    fresh.reverse();
    for task in fresh {
        match known.tasks.get(task.id()).filter(|before| before.container == task.container) {
            Some(before) => updated(Some(before), task, &framework.id, user, changes),
            None => {
                added(task, user, changes);
                updated(None, task, &framework.id, user, changes);
            }
        }
    }
}

fn added(task: &Arc<Task>, user: &str, changes: &mut Vec<Change>) {
    // As it was at first: what it became is told by updates.
    let mut shown = messages::task(task);
    shown.state = api::TaskState::Staging.into();
    shown.statuses.clear();
    shown.status_update_state = None;
    shown.status_update_uuid = None;
    let event = Event { task_added: Some(Box::new(event::TaskAdded { task: shown })), ..typed(event::Type::TaskAdded) };
    changes.push(Change { event, seen_by: of_task(task, user) });
}

/// Every status that was not there before.
fn updated(before: Option<&Task>, task: &Task, id: &FrameworkId, user: &str, changes: &mut Vec<Change>) {
    let newest = before.and_then(|before| before.statuses.last());
    let is_known = |status: &&Packed<TaskStatus>| newest.is_some_and(|newest| newest == *status);
    let mut fresh: Vec<&Packed<TaskStatus>> =
        task.statuses.iter().rev().take_while(|status| !is_known(status)).collect();
    fresh.reverse();
    for status in fresh {
        push_update(task, status.get(), id, user, changes);
    }
}

fn push_update(task: &Task, status: TaskStatus, id: &FrameworkId, user: &str, changes: &mut Vec<Change>) {
    let updated = event::TaskUpdated { framework_id: id.clone(), state: status.state, status };
    let event = Event { task_updated: Some(Box::new(updated)), ..typed(event::Type::TaskUpdated) };
    changes.push(Change { event, seen_by: of_task(task, user) });
}

fn of_task(task: &Task, user: &str) -> SeenBy {
    SeenBy::Task { own_user: task.own_user.as_deref().map(str::to_owned), framework_user: user.to_owned() }
}

/// Frameworks that came and went between the two pictures. Of more than the state remembers nothing is told.
fn passing(last: &View, view: &View, changes: &mut Vec<Change>) {
    let newest = last.state.completed_frameworks.back();
    let is_new = |one: &&Arc<CompletedFramework>| !newest.is_some_and(|newest| Arc::ptr_eq(newest, one));
    let mut fresh: Vec<_> = view.state.completed_frameworks.iter().rev().take_while(is_new).collect();
    fresh.reverse();
    for one in fresh.into_iter().filter(|one| !last.state.frameworks.contains_key(&one.id)) {
        let seen_by = || SeenBy::Framework(one.info.user.clone());
        let framework = messages::completed_framework(one);
        let event = Event {
            framework_added: Some(Box::new(event::FrameworkAdded { framework })),
            ..typed(event::Type::FrameworkAdded)
        };
        changes.push(Change { event, seen_by: seen_by() });
        for task in &one.completed_tasks {
            added(task, &one.info.user, changes);
            updated(None, task, &one.id, &one.info.user, changes);
        }
        let removed = Box::new(event::FrameworkRemoved { framework_info: one.info.as_ref().clone() });
        let event = Event { framework_removed: Some(removed), ..typed(event::Type::FrameworkRemoved) };
        changes.push(Change { event, seen_by: seen_by() });
    }
}

fn removed(last: &View, view: &View, changes: &mut Vec<Change>) {
    let completed: BTreeMap<_, _> = if view.state.frameworks.len() >= last.state.frameworks.len() {
        BTreeMap::new()
    } else {
        view.state.completed_frameworks.iter().map(|one| (&one.id, one)).collect()
    };
    for framework in last.state.frameworks.values().filter(|one| !view.state.frameworks.contains_key(&one.id)) {
        let now = completed
            .get(&framework.id)
            .copied()
            .or_else(|| view.state.completed_frameworks.iter().find(|completed| completed.id == framework.id));
        for task in framework.tasks.values() {
            let ended =
                now.and_then(|now| now.completed_tasks.iter().rev().find(|ended| ended.container == task.container));
            if let Some(ended) = ended {
                updated(Some(task), ended, &framework.id, &framework.info.user, changes);
            }
        }
        let removed = Box::new(event::FrameworkRemoved { framework_info: framework.info.as_ref().clone() });
        let event = Event { framework_removed: Some(removed), ..typed(event::Type::FrameworkRemoved) };
        changes.push(Change { event, seen_by: SeenBy::Framework(framework.info.user.clone()) });
    }
    for agent in last.state.agents.values().filter(|agent| is_registered(agent)) {
        if !view.state.agents.get(&agent.id).is_some_and(|now| is_registered(now)) {
            let removed = Box::new(event::AgentRemoved { agent_id: agent.id.clone() });
            let event = Event { agent_removed: Some(removed), ..typed(event::Type::AgentRemoved) };
            changes.push(Change { event, seen_by: SeenBy::Everybody });
        }
    }
}

fn typed(kind: event::Type) -> Event {
    Event { r#type: Some(kind.into()), ..Event::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::legacy::tests::{cluster, cluster_then};

    fn names(changes: &[Change]) -> Vec<&'static str> {
        changes.iter().map(|change| change.event.r#type().as_str_name()).collect()
    }

    #[test]
    fn a_picture_and_its_successor_differ_by_what_happened() {
        let (before, after) = cluster_then(2, 1, 3, 1, |state, launch| {
            launch(state, 100, true);
            launch(state, 101, false);
        });
        let changes = between(&before, &after);
        // One runs (two statuses), one has ended (three).
        let expected = ["TASK_ADDED", "TASK_UPDATED", "TASK_UPDATED"];
        let ended = ["TASK_ADDED", "TASK_UPDATED", "TASK_UPDATED", "TASK_UPDATED"];
        assert_eq!(names(&changes), [&expected[..], &ended[..]].concat());
        assert!(between(&after, &after).is_empty());
    }

    #[test]
    fn whoever_comes_and_goes_is_told() {
        let (none, all) = (cluster(0, 0, 0, 0), cluster(1, 1, 1, 0));
        let expected = ["AGENT_ADDED", "FRAMEWORK_ADDED", "TASK_ADDED", "TASK_UPDATED", "TASK_UPDATED"];
        assert_eq!(names(&between(&none, &all)), expected);
        assert_eq!(names(&between(&all, &none)), ["FRAMEWORK_REMOVED", "AGENT_REMOVED"]);
    }

    #[test]
    fn who_came_and_went_between_two_pictures_is_told_of() {
        let (before, after) = (cluster(1, 0, 0, 0), cluster(1, 1, 1, 0));
        let mut gone = (*after).clone();
        let state = Arc::make_mut(&mut gone.state);
        let id = state.frameworks.keys().next().unwrap().clone();
        state.apply(master_core::Command::RemoveFramework { framework: id, at: 2000 });
        let told = names(&between(&before, &gone));
        let statuses = vec!["TASK_UPDATED"; told.len() - 3];
        assert_eq!(told, [&["FRAMEWORK_ADDED", "TASK_ADDED"][..], &statuses, &["FRAMEWORK_REMOVED"]].concat());
        assert!(between(&gone, &gone).is_empty());
    }
}
