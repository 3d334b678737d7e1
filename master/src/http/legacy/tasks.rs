//! `/tasks`: a page of all tasks, newest first unless asked otherwise.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use master_core::View;
use master_core::state::Task;

use super::query::Query;
use super::{Asked, document};
use crate::http::auth::Approvers;
use crate::http::render::document::Document;
use crate::http::render::framework::Visible;
use crate::http::render::json::Place;
use crate::http::render::pool::Piece;
use crate::http::render::reads::Reads;
use crate::http::render::task::write_task;
use crate::http::router::Api;

/// Mesos's page when none is asked for.
const PAGE: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    framework: Option<String>,
    task: Option<String>,
    limit: usize,
    offset: usize,
    ascending: bool,
}

impl Page {
    fn of(query: &Query) -> Self {
        Self {
            framework: query.get("framework_id").map(str::to_owned),
            task: query.get("task_id").map(str::to_owned),
            limit: query.number("limit").unwrap_or(PAGE),
            offset: query.number("offset").unwrap_or(0),
            ascending: query.get("order") == Some("asc"),
        }
    }
}

pub(super) async fn tasks(State(api): State<Api>, Extension(reads): Extension<Arc<Reads>>, asked: Asked) -> Response {
    let page = Page::of(&asked.query);
    let key = asked.key("tasks", format!("{page:?}"));
    let approvers = asked.approvers.clone();
    document(&api, &reads, &asked, key, move |view| plan(&view, &page, &approvers)).await
}

fn plan(view: &View, page: &Page, approvers: &Approvers) -> Vec<Piece> {
    let mut document = Document::default();
    document.add(1, Place::First, |json| {
        json.begin();
        json.key("tasks").begin_array();
    });
    document.list(select(view, page, approvers), |json, task| write_task(json, &task));
    document.add(1, Place::First, |json| {
        json.end_array();
        json.end();
    });
    document.into_pieces()
}

/// By the first status; a task that has none is newer than all that do.
fn compare(a: &Task, b: &Task) -> Ordering {
    let since = |task: &Task| task.statuses.first().and_then(|status| status.get().timestamp).unwrap_or(f64::INFINITY);
    since(a).total_cmp(&since(b)).then(a.launched_at.cmp(&b.launched_at)).then_with(|| a.id().cmp(b.id()))
}

fn select(view: &View, page: &Page, approvers: &Approvers) -> Vec<Arc<Task>> {
    let is = |wanted: &Option<String>, id: &str| wanted.as_ref().is_none_or(|wanted| wanted == id);
    let mut found: Vec<&Arc<Task>> = Vec::new();
    for framework in view.state.frameworks.values().filter(|one| is(&page.framework, one.id.as_str())) {
        let visible = Visible { approvers: approvers.clone(), user: framework.info.user.clone() };
        let tasks = framework.tasks.values().chain(&framework.completed_tasks);
        found.extend(tasks.filter(|task| is(&page.task, task.id().as_str()) && visible.shows(task)));
    }
    for framework in view.state.completed_frameworks.iter().filter(|one| is(&page.framework, one.id.as_str())) {
        let visible = Visible { approvers: approvers.clone(), user: framework.info.user.clone() };
        let tasks = framework.completed_tasks.iter();
        found.extend(tasks.filter(|task| is(&page.task, task.id().as_str()) && visible.shows(task)));
    }
    let order = |a: &&Arc<Task>, b: &&Arc<Task>| if page.ascending { compare(a, b) } else { compare(b, a) };
    let end = page.offset.saturating_add(page.limit).min(found.len());
    if end < found.len() {
        // Only the page is sorted, not everything before and after it.
        found.select_nth_unstable_by(end, order);
        found.truncate(end);
    }
    found.sort_unstable_by(order);
    found.into_iter().skip(page.offset).cloned().collect()
}
