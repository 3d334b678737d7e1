//! The recording format: one dialogue a file, JSON meant to be read by people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Requests, and what a real master answered.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Dialogue {
    /// `topic/what-it-is`: the path of its file under `tests/recordings`, without the ending.
    pub name: String,
    /// A sentence: what a reader learns from it.
    pub shows: String,
    /// The program that answered, `Apache Mesos 1.11.0`; empty before it is recorded.
    #[serde(default)]
    pub seen_on: String,
    /// How much of the cluster it touches.
    #[serde(default, skip_serializing_if = "Reach::is_own")]
    pub reach: Reach,
    /// In order.
    pub steps: Vec<Step>,
}

/// How much of the cluster a dialogue touches.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Only its own frameworks.
    #[default]
    Own,
    /// Roles, reservations, weights: it puts them back, unless it is interrupted.
    Cluster,
    /// It needs a master nobody has used, and leaves one nobody can.
    Fresh,
}

impl Reach {
    /// Whether this is the usual case, which files do not mention.
    #[must_use]
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// One line of a dialogue.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// A request answered at once.
    Ask {
        /// What is sent.
        request: Request,
        /// How much of the answer's body counts.
        #[serde(default, skip_serializing_if = "View::is_exact")]
        view: View,
        /// The part of the body that counts, a JSON pointer; all of it if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<String>,
        /// The answer may take a moment to become this one: asked again until it does.
        #[serde(default, skip_serializing_if = "is_false")]
        eventually: bool,
        /// What came back.
        #[serde(default)]
        expect: Answer,
    },
    /// A request whose answer, if its status is 200, is a stream of events.
    Open {
        /// What later steps call it.
        stream: String,
        /// What is sent.
        request: Request,
        /// The head of the answer, and the body if it is no stream.
        #[serde(default)]
        expect: Answer,
    },
    /// The next event of a stream.
    Event {
        /// Which stream.
        stream: String,
        /// Types passed over while waiting.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skip: Vec<String>,
        /// How much of it counts.
        #[serde(default, skip_serializing_if = "View::is_exact")]
        view: View,
        /// The event.
        #[serde(default)]
        expect: Value,
    },
    /// So many events in any order, sorted by their text.
    Events {
        /// Which stream.
        stream: String,
        /// How many.
        count: usize,
        /// Types passed over while waiting.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skip: Vec<String>,
        /// The events.
        #[serde(default)]
        expect: Value,
    },
    /// So many offers and inverse offers, in as many events as they come in.
    Offers {
        /// Which stream.
        stream: String,
        /// How many offers.
        count: usize,
        /// The offers, sorted.
        #[serde(default)]
        expect: Value,
    },
    /// No event but those skipped for a while.
    Quiet {
        /// Which stream.
        stream: String,
        /// For how long.
        millis: u64,
        /// Types that may come.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skip: Vec<String>,
        /// The events that came: none.
        #[serde(default)]
        expect: Value,
    },
    /// The master ends the stream.
    End {
        /// Which stream.
        stream: String,
        /// `true`.
        #[serde(default)]
        expect: Value,
    },
    /// The client closes its connection.
    Close {
        /// Which stream.
        stream: String,
    },
    /// Time passes.
    Pause {
        /// How long.
        millis: u64,
    },
}

/// An HTTP request; `${name}` stands for what was seen under that name before.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Request {
    /// `POST`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Sent as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON to be sent as such, or in protobuf if `message` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The message type `json` is encoded as: the body is protobuf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A body that is no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The message type of a protobuf answer, or of each of its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// An HTTP answer, normalised.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Answer {
    /// 200 when all is well.
    pub status: u16,
    /// Those that mean something to a client, in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON if it is, else text; null if empty or not looked at.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
}

/// How much of a body counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Every value.
    #[default]
    Exact,
    /// The keys and the types of their values: for documents that say how large this cluster is.
    Shape,
    /// Only status and headers.
    Head,
}

impl View {
    /// Whether this is the usual case, which files do not mention.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_false(value: &bool) -> bool {
    !value
}
