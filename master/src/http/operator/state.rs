//! GET_STATE and its parts: in JSON written in pieces, in protobuf as one message.
//!
//! In JSON, Mesos shows the lists of these calls even when they are empty.

use std::sync::Arc;

use api::v1::ContentType;
use api::v1::master::{Response, response};
use master_core::View;
use master_core::state::{Executor, Framework, Task};

use super::messages::{self, AllShares};
use crate::http::auth::Approvers;
use crate::http::render::agent::is_registered;
use crate::http::render::document::Document;
use crate::http::render::framework::{Visible, is_reachable, is_unreachable};
use crate::http::render::json::{Json, Place};
use crate::http::render::pool::Piece;

/// Which call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// GET_TASKS.
    Tasks,
    /// GET_EXECUTORS.
    Executors,
    /// GET_FRAMEWORKS.
    Frameworks,
    /// GET_AGENTS.
    Agents,
    /// GET_STATE: all of these.
    State,
}

impl Part {
    const fn kind(self) -> response::Type {
        match self {
            Self::Tasks => response::Type::GetTasks,
            Self::Executors => response::Type::GetExecutors,
            Self::Frameworks => response::Type::GetFrameworks,
            Self::Agents => response::Type::GetAgents,
            Self::State => response::Type::GetState,
        }
    }

    /// The call's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tasks => "GET_TASKS",
            Self::Executors => "GET_EXECUTORS",
            Self::Frameworks => "GET_FRAMEWORKS",
            Self::Agents => "GET_AGENTS",
            Self::State => "GET_STATE",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Tasks => "get_tasks",
            Self::Executors => "get_executors",
            Self::Frameworks => "get_frameworks",
            Self::Agents => "get_agents",
            Self::State => "get_state",
        }
    }
}

/// What is shown of a picture, to whom.
#[derive(Clone)]
pub(crate) struct Shown {
    /// The picture.
    pub(crate) view: Arc<View>,
    /// What may be seen of it.
    pub(crate) approvers: Approvers,
}

/// The pieces of a whole answer.
pub(crate) fn plan(part: Part, content_type: ContentType, shown: &Shown) -> Vec<Piece> {
    match content_type {
        ContentType::Json => {
            let mut document = Document::default();
            document.add(1, Place::First, move |json| {
                json.begin();
                json.key("type").string(part.name());
            });
            add(&mut document, part, shown);
            document.add(1, Place::Next, Json::end);
            document.into_pieces()
        }
        ContentType::Protobuf => {
            let shown = shown.clone();
            vec![Box::new(move || ContentType::Protobuf.encode(&message(part, &shown)))]
        }
    }
}

fn message(part: Part, shown: &Shown) -> Response {
    let mut message = Response { r#type: Some(part.kind().into()), ..Response::default() };
    match part {
        Part::Tasks => message.get_tasks = Some(shown.tasks()),
        Part::Executors => message.get_executors = Some(shown.executors()),
        Part::Frameworks => message.get_frameworks = Some(shown.frameworks()),
        Part::Agents => message.get_agents = Some(shown.agents()),
        Part::State => message.get_state = Some(shown.state()),
    }
    message
}

impl Shown {
    fn visible(&self, framework: &Framework) -> Visible {
        Visible { approvers: self.approvers.clone(), user: framework.info.user.clone() }
    }

    /// Those tasks that are neither completed nor hidden.
    fn active_tasks(&self, wanted: fn(&Task) -> bool) -> Vec<Arc<Task>> {
        let mut tasks = Vec::new();
        for framework in self.view.state.frameworks.values() {
            let visible = self.visible(framework);
            let of_framework = framework.tasks.values();
            tasks.extend(of_framework.filter(|one| wanted(one) && visible.shows(one)).cloned());
        }
        tasks
    }

    fn completed_tasks(&self) -> Vec<Arc<Task>> {
        let mut tasks = Vec::new();
        for framework in self.view.state.frameworks.values() {
            let visible = self.visible(framework);
            tasks.extend(framework.completed_tasks.iter().filter(|task| visible.shows(task)).cloned());
        }
        for framework in &self.view.state.completed_frameworks {
            let visible = Visible { approvers: self.approvers.clone(), user: framework.info.user.clone() };
            tasks.extend(framework.completed_tasks.iter().filter(|task| visible.shows(task)).cloned());
        }
        tasks
    }

    /// Those that run.
    fn live_executors(&self) -> Vec<Arc<Executor>> {
        let shown = |one: &&Arc<Framework>| self.approvers.can_view_framework(&one.info.user);
        let frameworks = self.view.state.frameworks.values().filter(shown);
        let each = frameworks.flat_map(|framework| {
            let user = &framework.info.user;
            let seen = |one: &&Arc<Executor>| self.approvers.can_view_executor(one.own_user.as_deref(), user);
            framework.executors.values().filter(seen).cloned().collect::<Vec<_>>()
        });
        each.collect()
    }

    fn tasks(&self) -> response::GetTasks {
        let messages = |tasks: Vec<Arc<Task>>| tasks.iter().map(|task| messages::task(task)).collect();
        response::GetTasks {
            tasks: messages(self.active_tasks(is_reachable)),
            unreachable_tasks: messages(self.active_tasks(is_unreachable)),
            completed_tasks: messages(self.completed_tasks()),
            ..response::GetTasks::default()
        }
    }

    fn executors(&self) -> response::GetExecutors {
        response::GetExecutors {
            executors: self.live_executors().iter().map(|executor| messages::executor(executor)).collect(),
            ..response::GetExecutors::default()
        }
    }

    fn frameworks(&self) -> response::GetFrameworks {
        let shares = AllShares::of(&self.view);
        let state = &self.view.state;
        let known = state.frameworks.values().filter(|one| self.approvers.can_view_framework(&one.info.user));
        let gone = state.completed_frameworks.iter().filter(|one| self.approvers.can_view_framework(&one.info.user));
        response::GetFrameworks {
            frameworks: known.map(|one| messages::framework(&self.view, &shares, one)).collect(),
            completed_frameworks: gone.map(|one| messages::completed_framework(one)).collect(),
            ..response::GetFrameworks::default()
        }
    }

    fn agents(&self) -> response::GetAgents {
        let shares = AllShares::of(&self.view);
        let agents = self.view.state.agents.values().filter(|agent| is_registered(agent));
        response::GetAgents {
            agents: agents.map(|agent| messages::agent(&self.view, &shares, agent, &self.approvers)).collect(),
            recovered_agents: messages::recovered_agents(&self.view, &self.approvers).collect(),
        }
    }

    /// Everything, as one message.
    pub(crate) fn state(&self) -> response::GetState {
        response::GetState {
            get_tasks: Some(self.tasks()),
            get_executors: Some(self.executors()),
            get_frameworks: Some(self.frameworks()),
            get_agents: Some(self.agents()),
        }
    }
}

/// Adds a member of an object.
pub(crate) fn add(document: &mut Document, part: Part, shown: &Shown) {
    document.add(1, Place::Next, move |json| {
        json.key(part.key()).begin();
    });
    match part {
        Part::Tasks => {
            let lists = [
                ("tasks", shown.active_tasks(is_reachable)),
                ("unreachable_tasks", shown.active_tasks(is_unreachable)),
                ("completed_tasks", shown.completed_tasks()),
            ];
            for (at, (key, tasks)) in lists.into_iter().enumerate() {
                begin_list(document, key, if at == 0 { Place::First } else { Place::Next });
                document.list(tasks, |json, task| json.serialize(&messages::task(&task)));
                end_list(document);
            }
        }
        Part::Executors => {
            begin_list(document, "executors", Place::First);
            document.list(shown.live_executors(), |json, executor| json.serialize(&messages::executor(&executor)));
            end_list(document);
        }
        Part::Frameworks => add_frameworks(document, shown),
        Part::Agents => add_agents(document, shown),
        Part::State => {
            for (at, part) in [Part::Tasks, Part::Executors, Part::Frameworks, Part::Agents].into_iter().enumerate() {
                if at == 0 {
                    // The first of an object has no comma before it.
                    let mut inner = Document::default();
                    add(&mut inner, part, shown);
                    document.append(inner, Place::First);
                } else {
                    add(document, part, shown);
                }
            }
        }
    }
    document.add(1, Place::Next, Json::end);
}

fn begin_list(document: &mut Document, key: &'static str, place: Place) {
    document.add(1, place, move |json| json.key(key).begin_array());
}

fn end_list(document: &mut Document) {
    document.add(1, Place::Next, Json::end_array);
}

fn add_frameworks(document: &mut Document, shown: &Shown) {
    let (view, shares) = (shown.view.clone(), Arc::new(AllShares::of(&shown.view)));
    let known = shown.view.state.frameworks.values();
    let known: Vec<_> = known.filter(|one| shown.approvers.can_view_framework(&one.info.user)).cloned().collect();
    begin_list(document, "frameworks", Place::First);
    document.list(known, move |json, one| json.serialize(&messages::framework(&view, &shares, &one)));
    end_list(document);
    let gone = shown.view.state.completed_frameworks.iter();
    let gone: Vec<_> = gone.filter(|one| shown.approvers.can_view_framework(&one.info.user)).cloned().collect();
    begin_list(document, "completed_frameworks", Place::Next);
    document.list(gone, |json, one| json.serialize(&messages::completed_framework(&one)));
    end_list(document);
}

fn add_agents(document: &mut Document, shown: &Shown) {
    let (view, shares) = (shown.view.clone(), Arc::new(AllShares::of(&shown.view)));
    let (approvers, rights) = (shown.approvers.clone(), shown.approvers.clone());
    let agents: Vec<_> = shown.view.state.agents.values().filter(|agent| is_registered(agent)).cloned().collect();
    begin_list(document, "agents", Place::First);
    document.list(agents, move |json, agent| json.serialize(&messages::agent(&view, &shares, &agent, &approvers)));
    end_list(document);
    let view = shown.view.clone();
    document.add(1, Place::Next, move |json| {
        json.key("recovered_agents")
            .array(messages::recovered_agents(&view, &rights), |json, agent| json.serialize(&agent));
    });
}
