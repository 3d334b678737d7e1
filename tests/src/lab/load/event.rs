//! Events as far as the load looks at them, and the calls it makes, in JSON.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Deserialize;

/// How calls and events are spelled.
pub(super) const MEDIA_TYPE: &str = "application/json";

/// UPDATE_FRAMEWORK, with a label of this text.
pub(super) fn relabel(framework: &str, name: &str, text: &str) -> String {
    let info = serde_json::json!({
        "user": "root", "name": name, "id": {"value": framework}, "roles": ["*"],
        "capabilities": [{"type": "MULTI_ROLE"}],
        "labels": {"labels": [{"key": "payload", "value": text}]},
    });
    let call = serde_json::json!({"framework_id": {"value": framework}, "type": "UPDATE_FRAMEWORK",
        "update_framework": {"framework_info": info, "suppressed_roles": ["*"]}});
    call.to_string()
}

#[derive(Deserialize)]
pub(super) struct Id<'a> {
    #[serde(borrow)]
    pub(super) value: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) subscribed: Option<Subscribed<'a>>,
    #[serde(borrow)]
    pub(super) offers: Option<Offers<'a>>,
    #[serde(borrow)]
    pub(super) rescind: Option<Rescind<'a>>,
    #[serde(borrow)]
    pub(super) update: Option<Update<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Subscribed<'a> {
    #[serde(borrow)]
    pub(super) framework_id: Id<'a>,
}

#[derive(Deserialize)]
pub(super) struct Offers<'a> {
    #[serde(borrow)]
    pub(super) offers: Vec<Offer<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Rescind<'a> {
    #[serde(borrow)]
    pub(super) offer_id: Id<'a>,
}

#[derive(Deserialize)]
pub(super) struct Offer<'a> {
    #[serde(borrow)]
    pub(super) id: Id<'a>,
    #[serde(borrow)]
    pub(super) agent_id: Id<'a>,
    #[serde(borrow)]
    pub(super) resources: Vec<Resource<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Resource<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    scalar: Option<Scalar>,
}

#[derive(Deserialize)]
struct Scalar {
    value: f64,
}

#[derive(Deserialize)]
pub(super) struct Update<'a> {
    #[serde(borrow)]
    pub(super) status: Status<'a>,
}

#[derive(Deserialize)]
pub(super) struct Status<'a> {
    #[serde(borrow)]
    pub(super) task_id: Id<'a>,
    #[serde(borrow)]
    pub(super) agent_id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) state: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) uuid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) message: Option<Cow<'a, str>>,
}

impl Offer<'_> {
    /// How many tasks of this size fit.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a small positive number
    pub(super) fn fits(&self) -> usize {
        let amount = |name: &str| {
            let named = self.resources.iter().filter(|resource| resource.name == name);
            named.filter_map(|resource| resource.scalar.as_ref()).map(|scalar| scalar.value).sum::<f64>()
        };
        (amount("cpus") / CPUS + 1e-9).min(amount("mem") / MEM + 1e-9) as usize
    }
}

/// What a task asks for: as in the benchmark Mesos was measured with.
const CPUS: f64 = 0.1;
const MEM: f64 = 10.0;

pub(super) fn subscribe(name: &str, suppressed_roles: &[&str]) -> String {
    let suppressed = serde_json::json!(suppressed_roles);
    format!(
        r#"{{"type":"SUBSCRIBE","subscribe":{{"framework_info":{{"user":"root","name":"{name}","roles":["*"],"failover_timeout":600,"capabilities":[{{"type":"MULTI_ROLE"}},{{"type":"PARTITION_AWARE"}}]}},"suppressed_roles":{suppressed}}}}}"#
    )
}

/// Launches tasks numbered from `first` on an offer.
pub(super) fn accept(framework: &str, offer: &str, agent: &str, first: usize, count: usize, command: &str) -> String {
    let mut body = format!(
        r#"{{"type":"ACCEPT","framework_id":{{"value":"{framework}"}},"accept":{{"offer_ids":[{{"value":"{offer}"}}],"filters":{{"refuse_seconds":0}},"operations":[{{"type":"LAUNCH","launch":{{"task_infos":["#
    );
    for number in first..first + count {
        let comma = if number == first { "" } else { "," };
        write!(
            body,
            r#"{comma}{{"name":"load","task_id":{{"value":"{number}"}},"agent_id":{{"value":"{agent}"}},"command":{{"value":"{command}"}},"resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":{CPUS}}}}},{{"name":"mem","type":"SCALAR","scalar":{{"value":{MEM}}}}}]}}"#
        )
        .expect("writing to a string cannot fail");
    }
    body.push_str("]}}]}}");
    body
}

pub(super) fn decline(framework: &str, offers: &[String], refuse_seconds: f64) -> String {
    let ids: Vec<String> = offers.iter().map(|id| format!(r#"{{"value":"{id}"}}"#)).collect();
    format!(
        r#"{{"type":"DECLINE","framework_id":{{"value":"{framework}"}},"decline":{{"offer_ids":[{}],"filters":{{"refuse_seconds":{refuse_seconds}}}}}}}"#,
        ids.join(",")
    )
}

pub(super) fn acknowledge(framework: &str, agent: &str, task: &str, uuid: &str) -> String {
    format!(
        r#"{{"type":"ACKNOWLEDGE","framework_id":{{"value":"{framework}"}},"acknowledge":{{"agent_id":{{"value":"{agent}"}},"task_id":{{"value":"{task}"}},"uuid":"{uuid}"}}}}"#
    )
}

pub(super) fn bare(framework: &str, kind: &str) -> String {
    format!(r#"{{"type":"{kind}","framework_id":{{"value":"{framework}"}}}}"#)
}
