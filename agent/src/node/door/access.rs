//! Who comes to the node's door and what they may: the node keeps neither secrets nor lists, it asks the master, each
//! time. Without a master nobody comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::link::{FromAgent, Inquiry, Question, Verdict, from_agent};
use tokio::sync::oneshot;

use super::wish::Wish;
use crate::node::events::{Event, Events, Session};

/// The master answers in a millisecond, or it is gone.
const ANSWER: Duration = Duration::from_secs(10);
/// Questions about visitors that wait for the master. Full: who comes is told to come again.
const WAITING: usize = 64;
/// Users, roles and what may be done to their things: more are not asked for at once, and what was not asked is denied.
const QUESTIONS: usize = 1024;

/// Somebody at the door.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) authorization: String,
    pub(crate) address: IpAddr,
}

/// Mesos's realms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Realm {
    ReadOnly,
    ReadWrite,
}

impl Realm {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "mesos-agent-readonly",
            Self::ReadWrite => "mesos-agent-readwrite",
        }
    }
}

/// May they? The name of one of Mesos's lists, and an object of it.
pub(crate) type Ask = (&'static str, Option<String>);

/// What a visitor may.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) principal: String,
    granted: BTreeSet<Ask>,
}

impl Rights {
    /// Was it granted?
    pub(crate) fn may(&self, list: &'static str, object: Option<&str>) -> bool {
        self.granted.contains(&(list, object.map(str::to_owned)))
    }
}

/// Why somebody does not come in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// 401, 403 or 429 with the seconds to wait.
    Status(u16, u32),
    /// The master cannot be asked.
    NoMaster,
}

/// Asks the master.
pub(crate) async fn ask(
    events: &Events,
    visitor: &Visitor,
    realm: Realm,
    asks: impl IntoIterator<Item = Ask>,
) -> Result<Rights, Refusal> {
    let asks: BTreeSet<Ask> = asks.into_iter().take(QUESTIONS).collect();
    let question = |(list, object): &Ask| Question { action: (*list).to_owned(), object: object.clone() };
    let inquiry = Inquiry {
        request: 0,
        authorization: visitor.authorization.clone(),
        address: visitor.address.to_string(),
        writes: realm == Realm::ReadWrite,
        questions: asks.iter().map(question).collect(),
    };
    let (reply, answer) = oneshot::channel();
    events
        .send(Event::Door(Wish::Inquire { inquiry: Box::new(inquiry), reply }))
        .await
        .map_err(|_| Refusal::NoMaster)?;
    let answer = tokio::time::timeout(ANSWER, answer).await;
    let verdict = answer.ok().and_then(Result::ok).ok_or(Refusal::NoMaster)?;
    match u16::try_from(verdict.status).unwrap_or(403) {
        200 => {
            let granted = asks.into_iter().zip(verdict.granted).filter_map(|(ask, granted)| granted.then_some(ask));
            Ok(Rights { principal: verdict.principal, granted: granted.collect() })
        }
        status => Err(Refusal::Status(status, verdict.wait_secs)),
    }
}

/// The questions that are under way to the master, in the driver's hands.
#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Verdict>>,
}

impl Inquiries {
    /// Puts one; whoever asked hears nothing when it cannot be put.
    pub(crate) fn put(&mut self, mut inquiry: Inquiry, reply: oneshot::Sender<Verdict>, session: Option<&Session>) {
        self.waiting.retain(|_, reply| !reply.is_closed());
        let Some(session) = session.filter(|_| self.waiting.len() < WAITING) else { return };
        self.last += 1;
        inquiry.request = self.last;
        let message = FromAgent { message: Some(from_agent::Message::Inquiry(inquiry)) };
        if session.urgent.try_send(message).is_ok() {
            self.waiting.insert(self.last, reply);
        }
    }

    /// The master has answered.
    pub(crate) fn answered(&mut self, verdict: Verdict) {
        if let Some(reply) = self.waiting.remove(&verdict.request) {
            // Whoever asked has gone.
            let _ = reply.send(verdict);
        }
    }

    /// Its master is gone: nobody will answer.
    pub(crate) fn end(&mut self) {
        self.waiting.clear();
    }
}
