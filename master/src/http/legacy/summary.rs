//! `/state-summary`: how many tasks in which state, by agent and by framework.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::{AgentId, FrameworkId};
use axum::extract::{Extension, State};
use axum::response::Response;
use master_core::View;
use master_core::state::{Framework, Task};

use super::{Asked, document};
use crate::http::auth::Approvers;
use crate::http::render::agent::{is_registered, write_agent};
use crate::http::render::document::Document;
use crate::http::render::framework::{Visible, standing};
use crate::http::render::json::{Json, Place};
use crate::http::render::pool::Piece;
use crate::http::render::reads::Reads;
use crate::http::render::task::StateCounts;
use crate::http::render::usage::Usage;
use crate::http::router::{Api, Facts};

pub(super) async fn summary(State(api): State<Api>, Extension(reads): Extension<Arc<Reads>>, asked: Asked) -> Response {
    let (facts, approvers) = (api.facts.clone(), asked.approvers.clone());
    let key = asked.key("state-summary", String::new());
    document(&api, &reads, &asked, key, move |view| plan(&view, &facts, &approvers)).await
}

/// Tasks of one agent or framework, and where or whose they are.
#[derive(Default)]
struct Tally<I> {
    counts: StateCounts,
    others: BTreeSet<I>,
}

impl<I: Ord + Clone> Tally<I> {
    fn count(&mut self, task: &Task, other: &I) {
        self.counts.count(task.state);
        if !self.others.contains(other) {
            self.others.insert(other.clone());
        }
    }
}

#[derive(Default)]
struct Tallies {
    agents: HashMap<AgentId, Tally<FrameworkId>>,
    frameworks: HashMap<FrameworkId, Tally<AgentId>>,
}

impl Tallies {
    fn of(view: &View, approvers: &Approvers) -> Self {
        let mut tallies = Self::default();
        for framework in view.state.frameworks.values() {
            let visible = Visible { approvers: approvers.clone(), user: framework.info.user.clone() };
            let mut own = Tally::default();
            for task in tasks_of(framework).filter(|task| visible.shows(task)) {
                own.count(task, &task.agent);
                match tallies.agents.get_mut(&task.agent) {
                    Some(tally) => tally.count(task, &framework.id),
                    None => tallies.agents.entry(task.agent.clone()).or_default().count(task, &framework.id),
                }
            }
            tallies.frameworks.insert(framework.id.clone(), own);
        }
        tallies
    }
}

fn tasks_of(framework: &Framework) -> impl Iterator<Item = &Arc<Task>> {
    framework.tasks.values().chain(&framework.completed_tasks)
}

pub(super) fn plan(view: &Arc<View>, facts: &Facts, approvers: &Approvers) -> Vec<Piece> {
    let (usage, tallies) = (Arc::new(Usage::of(view)), Arc::new(Tallies::of(view, approvers)));
    let mut document = Document::default();
    let (hostname, cluster) = (facts.hostname.clone(), facts.cluster.clone());
    document.add(1, Place::First, move |json| {
        json.begin();
        json.key("hostname").string(&hostname);
        if let Some(cluster) = cluster {
            json.key("cluster").string(&cluster);
        }
        json.key("slaves").begin_array();
    });
    let registered = view.state.agents.values().filter(|agent| is_registered(agent)).cloned();
    let (pictured, counted, tallied, rights) = (view.clone(), usage.clone(), tallies.clone(), approvers.clone());
    document.list(registered, move |json, agent| {
        json.object(|json| {
            write_agent(json, &pictured, &counted.agent(&agent.id), &agent, &rights);
            match tallied.agents.get(&agent.id) {
                Some(tally) => write_tally(json, tally, "framework_ids", FrameworkId::as_str),
                None => write_tally(json, &Tally::default(), "framework_ids", FrameworkId::as_str),
            }
        });
    });
    document.add(1, Place::First, |json| {
        json.end_array();
        json.key("frameworks").begin_array();
    });
    let frameworks = view.state.frameworks.values().filter(|one| approvers.can_view_framework(&one.info.user));
    let (pictured, counted) = (view.clone(), usage);
    document.list(frameworks.cloned().collect::<Vec<_>>(), move |json, framework| {
        json.object(|json| {
            standing(&pictured, &counted.framework(&framework.id), &framework).write(json);
            match tallies.frameworks.get(&framework.id) {
                Some(tally) => write_tally(json, tally, "slave_ids", AgentId::as_str),
                None => write_tally(json, &Tally::default(), "slave_ids", AgentId::as_str),
            }
        });
    });
    document.add(1, Place::Next, |json| {
        json.end_array();
        json.end();
    });
    document.into_pieces()
}

fn write_tally<I>(json: &mut Json, tally: &Tally<I>, others: &str, spelled: fn(&I) -> &str) {
    tally.counts.write(json);
    json.key(others).array(&tally.others, |json, other| json.string(spelled(other)));
}
