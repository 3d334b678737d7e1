//! `/frameworks`: those that are subscribed or may come back, and those that were removed.

use std::sync::Arc;

use api::FrameworkId;
use axum::extract::{Extension, State};
use axum::response::Response;
use master_core::View;

use super::{Asked, document};
use crate::http::auth::Approvers;
use crate::http::render::document::Document;
use crate::http::render::framework::{add_completed_framework, add_framework};
use crate::http::render::json::Place;
use crate::http::render::pool::Piece;
use crate::http::render::reads::Reads;
use crate::http::render::usage::Usage;
use crate::http::router::Api;

pub(super) async fn frameworks(
    State(api): State<Api>,
    Extension(reads): Extension<Arc<Reads>>,
    asked: Asked,
) -> Response {
    let wanted = asked.query.get("framework_id").map(str::to_owned);
    let key = asked.key("frameworks", wanted.clone().unwrap_or_default());
    let approvers = asked.approvers.clone();
    document(&api, &reads, &asked, key, move |view| plan(&view, wanted.as_deref(), &approvers)).await
}

pub(super) fn plan(view: &Arc<View>, wanted: Option<&str>, approvers: &Approvers) -> Vec<Piece> {
    let usage = Arc::new(Usage::of(view));
    let shown = |id: &FrameworkId, user: &str| {
        wanted.is_none_or(|wanted| wanted == id.as_str()) && approvers.can_view_framework(user)
    };
    let mut document = Document::default();
    document.add(1, Place::First, |json| {
        json.begin();
        json.key("frameworks").begin_array();
    });
    let mut place = Place::First;
    for framework in view.state.frameworks.values().filter(|one| shown(&one.id, &one.info.user)) {
        add_framework(&mut document, view, &usage, framework, place, approvers);
        place = Place::Next;
    }
    document.add(1, Place::Next, |json| {
        json.end_array();
        json.key("completed_frameworks").begin_array();
    });
    let mut place = Place::First;
    for framework in view.state.completed_frameworks.iter().filter(|one| shown(&one.id, &one.info.user)) {
        add_completed_framework(&mut document, framework, place, approvers);
        place = Place::Next;
    }
    document.add(1, Place::Next, |json| {
        json.end_array();
        json.key("unregistered_frameworks").array::<()>([], |_, ()| ());
        json.end();
    });
    document.into_pieces()
}
