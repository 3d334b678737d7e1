//! `/roles`: whoever subscribes to one, and what is allocated, offered and reserved for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::FrameworkId;
use axum::extract::{Extension, State};
use axum::response::Response;
use master_core::View;
use master_core::io::operator::QuotaConfig;

use super::quantities::Quantities;
use super::{Asked, document, policy};
use crate::http::auth::Approvers;
use crate::http::render::document::Document;
use crate::http::render::json::{Json, Place};
use crate::http::render::pool::Piece;
use crate::http::render::reads::Reads;
use crate::http::router::Api;

pub(super) async fn roles(State(api): State<Api>, Extension(reads): Extension<Arc<Reads>>, asked: Asked) -> Response {
    let approvers = asked.approvers.clone();
    let key = asked.key("roles", String::new());
    document(&api, &reads, &asked, key, move |view| plan(&view, &approvers)).await
}

/// A role that is known: somebody subscribes to it or holds something of it, it has a weight or a
/// quota, or one below it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Role {
    /// Subscribed to the role itself.
    pub(crate) frameworks: BTreeSet<FrameworkId>,
    /// With everything below it.
    pub(crate) allocated: Quantities,
    /// The same.
    pub(crate) offered: Quantities,
    /// The same.
    pub(crate) reserved: Quantities,
    /// What counts against a quota: what is reserved, and what is allocated beyond it.
    pub(crate) consumed: Quantities,
}

/// All known roles.
pub(crate) fn known_roles(view: &View) -> BTreeMap<String, Role> {
    let mut roles: BTreeMap<String, Role> = BTreeMap::new();
    for framework in view.state.frameworks.values() {
        for role in framework.info.effective_roles() {
            for_each_above(&role, |ancestor| _ = entry(&mut roles, ancestor));
            roles.entry(role).or_default().frameworks.insert(framework.id.clone());
        }
    }
    let quotas = policy::quotas_of(view).filter(|quota| !is_empty(quota));
    let set = policy::weights_of(view).map(|(role, _)| role).chain(quotas.map(|quota| quota.role.as_str()));
    for role in set {
        for_each_above(role, |role| _ = entry(&mut roles, role));
    }
    for held in view.state.holdings() {
        let amount = Quantities::of(held.resources);
        let mut unreserved = Quantities::default();
        unreserved.add_all(held.resources.iter().filter(|one| one.role() == "*" && !one.revocable));
        for_each_above(held.role, |role| {
            let role = entry(&mut roles, role);
            role.allocated.merge(&amount);
            role.consumed.merge(&unreserved);
        });
    }
    for offer in view.offers.values() {
        let amount = Quantities::of(&offer.resources);
        for_each_above(&offer.role, |role| entry(&mut roles, role).offered.merge(&amount));
    }
    for agent in view.state.agents.values() {
        for resource in agent.resources.iter().filter(|resource| resource.role() != "*") {
            for_each_above(resource.role(), |role| {
                let role = entry(&mut roles, role);
                role.reserved.add_all([resource]);
                role.consumed.add_all([resource]);
            });
        }
    }
    roles
}

/// It was set to nothing: it is listed as a quota, and makes no role known.
fn is_empty(quota: &QuotaConfig) -> bool {
    quota.guarantees.is_empty() && quota.limits.is_empty()
}

fn entry<'a>(roles: &'a mut BTreeMap<String, Role>, name: &str) -> &'a mut Role {
    if !roles.contains_key(name) {
        roles.insert(name.to_owned(), Role::default());
    }
    roles.get_mut(name).expect("it was inserted on the line above if it was missing")
}

/// The role and all above it: `a/b` is below `a`.
fn for_each_above(role: &str, mut each: impl FnMut(&str)) {
    each(role);
    let mut rest = role;
    while let Some((above, _)) = rest.rsplit_once('/') {
        each(above);
        rest = above;
    }
}

pub(super) fn plan(view: &Arc<View>, approvers: &Approvers) -> Vec<Piece> {
    let mut document = Document::default();
    document.add(1, Place::First, |json| {
        json.begin();
        json.key("roles").begin_array();
    });
    let roles: Vec<(String, Role)> =
        known_roles(view).into_iter().filter(|(name, _)| approvers.can_view_role(name)).collect();
    let (pictured, rights) = (view.clone(), approvers.clone());
    document.list(roles, move |json, (name, role)| {
        let weight = pictured.state.weights.get(&name).copied().unwrap_or(1.0);
        json.object(|json| write_role(json, &pictured, &rights, &name, &role, weight));
    });
    document.add(1, Place::First, |json| {
        json.end_array();
        json.end();
    });
    document.into_pieces()
}

fn write_role(json: &mut Json, view: &View, approvers: &Approvers, name: &str, role: &Role, weight: f64) {
    json.key("name").string(name);
    json.key("weight").double(weight);
    if approvers.can_get_quota(name) {
        json.key("quota").object(|json| {
            let quota = view.state.quotas.get(name).cloned().unwrap_or_default();
            json.key("role").string(name);
            json.key("guarantee");
            policy::write_amounts(json, &quota.guarantees);
            json.key("limit");
            policy::write_amounts(json, &quota.limits);
            json.key("consumed");
            role.consumed.write(json);
        });
    }
    let mut both = role.allocated.clone();
    both.merge(&role.offered);
    for (key, amount) in
        [("resources", &both), ("allocated", &role.allocated), ("offered", &role.offered), ("reserved", &role.reserved)]
    {
        json.key(key);
        amount.write(json);
    }
    json.key("frameworks").array(&role.frameworks, |json, id| json.string(id.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_role_has_its_ancestors_have_too() {
        let mut seen = Vec::new();
        for_each_above("a/b/c", |role| seen.push(role.to_owned()));
        assert_eq!(seen, ["a/b/c", "a/b", "a"]);
    }
}
