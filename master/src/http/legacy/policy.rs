//! `/weights` and `/quota`.

use std::collections::BTreeMap;

use api::Milli;
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::Method;
use master_core::View;
use master_core::io::operator::QuotaConfig;

use super::changes::{self, quota_path, read_remove_quota, read_set_quota, read_weights};
use super::{Asked, body_of, small};
use crate::http::render::json::Json;
use crate::http::router::Api;

/// The weights that were set, by role.
pub(crate) fn weights_of(view: &View) -> impl Iterator<Item = (&str, f64)> {
    view.state.weights.iter().map(|(role, weight)| (role.as_str(), *weight))
}

/// The quotas that were set.
pub(crate) fn quotas_of(view: &View) -> impl Iterator<Item = &QuotaConfig> {
    view.state.quotas.values()
}

/// `{"cpus":1.0}`.
pub(crate) fn write_amounts(json: &mut Json, amounts: &BTreeMap<String, Milli>) {
    json.object(|json| {
        for (name, amount) in amounts {
            json.key_of(name).milli(*amount);
        }
    });
}

pub(super) async fn weights(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    if let Err(response) = asked.only(&[Method::GET, Method::PUT]) {
        return response;
    }
    if asked.method == Method::PUT {
        return match body_of(request).await {
            Ok(body) => changes::perform(&api, &asked, read_weights(&body)).await,
            Err(response) => response,
        };
    }
    let approvers = asked.approvers.clone();
    small(&api, &asked, |view, json| {
        let shown = weights_of(view).filter(|(role, _)| approvers.can_view_role(role));
        json.array(shown, |json, (role, weight)| {
            json.object(|json| {
                json.key("role").string(role);
                json.key("weight").double(weight);
            });
        });
    })
    .await
}

pub(super) async fn quota(State(api): State<Api>, asked: Asked, request: Request) -> Response {
    if let Err(response) = asked.only(&[Method::GET, Method::POST, Method::DELETE]) {
        return response;
    }
    if asked.method == Method::DELETE {
        return changes::perform(&api, &asked, read_remove_quota(&quota_path(asked.uri.path()))).await;
    }
    if asked.method == Method::POST {
        return match body_of(request).await {
            Ok(body) => changes::perform(&api, &asked, read_set_quota(&body)).await,
            Err(response) => response,
        };
    }
    let approvers = asked.approvers.clone();
    small(&api, &asked, |view, json| {
        let shown: Vec<&QuotaConfig> = quotas_of(view).filter(|quota| approvers.can_get_quota(&quota.role)).collect();
        json.object(|json| {
            if !shown.is_empty() {
                json.key("infos").array(&shown, |json, quota| write_info(json, quota));
                json.key("configs").array(&shown, |json, quota| write_config(json, quota));
            }
        });
    })
    .await
}

fn write_info(json: &mut Json, quota: &QuotaConfig) {
    json.object(|json| {
        json.key("role").string(&quota.role);
        if !quota.guarantees.is_empty() {
            json.key("guarantee").array(&quota.guarantees, |json, (name, amount)| {
                json.object(|json| {
                    json.key("name").string(name);
                    json.key("type").string("SCALAR");
                    json.key("scalar").object(|json| json.key("value").milli(*amount));
                });
            });
        }
    });
}

fn write_config(json: &mut Json, quota: &QuotaConfig) {
    json.object(|json| {
        json.key("role").string(&quota.role);
        for (key, amounts) in [("guarantees", &quota.guarantees), ("limits", &quota.limits)] {
            if amounts.is_empty() {
                continue;
            }
            json.key(key).object(|json| {
                for (name, amount) in amounts {
                    json.key_of(name).object(|json| json.key("value").milli(*amount));
                }
            });
        }
    });
}
