//! Which path is whose. Everything of Mesos's master answers with and without the prefix `/master`.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::{any, delete, get, post, put};
use axum::{Extension, Router};
use tokio::sync::watch;

use super::auth::{self, Guard, require};
use super::render::answer::not_found;
use super::render::reads::Reads;
use super::{
    authority, browse, exec, files, fleet, legacy, masters, metrics, node_api, nodes, operator, rules, scheduler,
    secrets, tokens,
};
use crate::agents::Gate;
use crate::authority::{Authority, Successions};
use crate::crashes::Crashes;
use crate::driver::Handle;
use crate::raft::Replica;
use crate::revocations::Revocations;
use crate::secrets::Secrets;
use crate::tokens::Tokens;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    /// The way to the driver.
    pub driver: Handle,
    /// Do we lead?
    pub leading: watch::Receiver<bool>,
    /// Knows the other masters.
    pub replica: Replica,
    /// For tokens operators make.
    pub tokens: Arc<Tokens>,
    /// For nodes that are retired.
    pub revocations: Arc<Revocations>,
    /// Which machines are ours, and those that wait.
    pub gate: Gate,
    /// What nodes found of boots that ended badly.
    pub crashes: Arc<Crashes>,
    /// Who vouches for nodes and masters.
    pub authority: Arc<Authority>,
    /// And who follows.
    pub successions: Arc<Successions>,
    /// What tasks name instead of giving it.
    pub secrets: Arc<Secrets>,
    /// What does not change.
    pub facts: Arc<Facts>,
}

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Mesos's version, which clients parse.
    pub mesos_version: &'static str,
    /// What others reach us by.
    pub hostname: String,
    /// `host:port` where clients reach the API.
    pub http: String,
    /// The address in `pid`.
    pub ip: String,
    /// The API's port.
    pub port: u16,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// The flags as given, by name.
    pub flags: std::collections::BTreeMap<String, String>,
    /// How many may watch the operator API's events at once.
    pub event_streams: usize,
    /// The certificate authority's.
    pub ca_sha256: String,
}

impl Facts {
    /// `master@ip:port`.
    #[must_use]
    pub fn pid(&self) -> String {
        format!("master@{}:{}", self.ip, self.port)
    }
}

/// The API, behind `guard`.
pub fn router(api: Api, guard: Arc<Guard>) -> Router {
    let ours = Router::new()
        .route("/mesolith/v1/tasks/{framework}/{task}/files/{*path}", get(files::task_file))
        .route("/mesolith/v1/tasks/{framework}/{task}/browse", get(browse::sandbox))
        .route("/mesolith/v1/tasks/{framework}/{task}/browse/{*path}", get(browse::directory))
        .route("/mesolith/v1/tasks/{framework}/{task}/exec", post(exec::exec))
        .route("/mesolith/v1/nodes/{node}/log", get(files::node_log))
        .route("/mesolith/v1/nodes/{node}/inventory", get(nodes::inventory))
        .route("/mesolith/v1/nodes/{node}/api/{method}", any(node_api::call))
        .route("/mesolith/v1/nodes/{node}/attributes", get(nodes::attributes))
        .route("/mesolith/v1/nodes", get(nodes::nodes))
        .route("/mesolith/v1/nodes/{node}/retire", post(fleet::retire))
        .route("/mesolith/v1/nodes/{node}/reprovision", post(fleet::reprovision))
        .route("/mesolith/v1/unclaimed", get(fleet::unclaimed))
        .route("/mesolith/v1/claims", get(fleet::claims).post(fleet::claim))
        .route("/mesolith/v1/claim-rules/{name}", put(fleet::put_rule).delete(fleet::remove_rule))
        .route("/mesolith/v1/crashes", get(fleet::crashes))
        .route("/mesolith/v1/authority", get(authority::show))
        .route("/mesolith/v1/authority/rotate", post(authority::rotate))
        .route("/mesolith/v1/authority/finish", post(authority::finish))
        .route("/mesolith/v1/rules", get(rules::list))
        .route("/mesolith/v1/rules/{name}", put(rules::put).delete(rules::remove))
        .route("/mesolith/v1/rules-test", post(rules::test))
        .route("/mesolith/v1/tokens", post(tokens::make))
        .route("/mesolith/v1/secrets", get(secrets::list))
        .route("/mesolith/v1/secrets/{*name}", put(secrets::change).delete(secrets::change))
        .route("/mesolith/v1/snapshot", get(masters::snapshot))
        .route("/mesolith/v1/masters", post(masters::token))
        .route("/mesolith/v1/masters/{id}", delete(masters::remove))
        .route("/mesolith/v1/masters/{id}/promote", post(masters::promote))
        .merge(auth::routes::routes())
        .route_layer(from_fn_with_state(api.clone(), legacy::to_leader))
        .route("/mesolith/v1/masters", get(masters::list));
    let guarded = Router::new()
        .merge(mesos())
        .nest("/master", mesos())
        .merge(ours)
        .merge(legacy::siblings())
        .route("/metrics/snapshot", any(metrics::snapshot))
        .route("/metrics/snapshot/{*rest}", any(metrics::snapshot))
        .route("/metrics", get(metrics::prometheus))
        .route("/health", any(legacy::health))
        .route("/master/health", any(legacy::health))
        .route("/version", any(legacy::version))
        .fallback(|| async { not_found() })
        .layer(Extension(Arc::new(Reads::start())))
        .layer(Extension(Arc::new(operator::stream::Watchers::at_most(api.facts.event_streams))))
        .layer(from_fn_with_state(guard, require));
    guarded.with_state(api)
}

fn mesos() -> Router<Api> {
    Router::new()
        .route("/api/v1/scheduler", any(scheduler::scheduler))
        // As Mesos routes: what is not the scheduler's is the operator's.
        .route("/api/v1", any(operator::operator))
        .route("/api/v1/{*rest}", any(operator::operator))
        .route("/redirect", any(legacy::redirect))
        .merge(legacy::routes())
}
