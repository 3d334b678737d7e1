//! The session with the master that is to lead next, and what becomes of it when it does.

use agent_core::registration::{self, Registration};
use agent_core::standby::Action;
use api::link::{FromAgent, FromMaster, Return, Standby, from_agent, from_master};
use tokio::task::JoinHandle;

use super::Driver;
use crate::node::events::{Event, Session};
use crate::node::link;
use crate::uptime;

/// So that not everybody who waited elsewhere comes to a new leader in one moment.
const FOLLOW_WITHIN_MS: u64 = 500;

/// A session that waits, or is being opened.
pub(super) struct Waiting {
    master: String,
    generation: u64,
    session: Option<Session>,
    link: JoinHandle<()>,
}

impl Driver {
    /// While there is no leader, the session that is open is what we wait for; another one is not opened.
    pub(super) fn may_stand_by(&self) -> bool {
        self.registration.as_ref().is_some_and(Registration::is_registered)
    }

    pub(super) fn stand_by_with(&mut self, master: &str) {
        if let Some(Action::Close) = self.standby.wish(master, uptime::millis()) {
            self.drop_waiting();
        }
    }

    pub(super) fn poll_standby(&mut self) {
        if !self.may_stand_by() {
            return;
        }
        let Some(Action::Open { master }) = self.standby.poll(uptime::millis()) else { return };
        let Some(identity) = self.identity.clone() else { return };
        let trusted = self.authorities.trusted().to_vec();
        self.sessions += 1;
        let (generation, events) = (self.sessions, self.events.clone());
        let first = from_agent::Message::Standby(Standby {});
        tracing::debug!(master, "standing by with the master that is to lead next");
        let link = tokio::spawn(link::run(master.clone(), trusted, identity, first, generation, events));
        self.waiting = Some(Waiting { master, generation, session: None, link });
    }

    pub(super) fn standby_opened(&mut self, generation: u64, session: Session) {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.generation == generation) {
            waiting.session = Some(session);
            self.standby.opened(uptime::millis());
        }
    }

    pub(super) fn standby_said(&mut self, generation: u64, message: FromMaster) {
        if self.waiting.as_ref().is_none_or(|waiting| waiting.generation != generation) {
            return;
        }
        match message.message {
            Some(from_master::Message::Leading(leading)) => {
                if !self.registration.as_ref().is_some_and(|known| known.believes(leading.term)) {
                    // We are there.
                } else if leading.link.is_empty() {
                    if let Some(waiting) = self.waiting.take() {
                        self.promote(waiting);
                    }
                } else {
                    self.follow(&leading.link);
                }
            }
            Some(from_master::Message::Refused(refused)) => {
                tracing::warn!(reason = refused.reason, "the master that is to lead next does not let us wait");
                self.drop_waiting();
                self.standby.lost(uptime::millis());
            }
            // Not for one who waits.
            _ => {}
        }
    }

    pub(super) fn standby_ended(&mut self, generation: u64, reason: &str) {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.generation == generation) {
            tracing::debug!(reason, "the standby session ended");
            self.waiting = None;
            self.standby.lost(uptime::millis());
        }
    }

    /// Its master leads: this is the session now, and what the last leader knew the new one knows.
    fn promote(&mut self, waiting: Waiting) {
        let Waiting { master, generation, session, link } = waiting;
        tracing::info!(master, "the master that was to lead next leads");
        self.end_session();
        (self.generation, self.session, self.link, self.master) = (generation, session, Some(link), master);
        self.standby.taken();
        self.registration(registration::Event::Promoted);
        // What has changed since the last look.
        self.look.nudge(uptime::millis());
        if !self.supervision.agent.executor_reports().is_empty() {
            return self.register_in_full();
        }
        let reports = self.supervision.agent.reports();
        let mut tasks: Vec<_> =
            reports.iter().map(|run| (&run.framework, &run.task, &run.container, run.state)).collect();
        tasks.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let back = Return {
            protocol: api::link::PROTOCOL,
            boot_id: self.settings.boot_id.clone(),
            agent_id: self.kept.agent.clone().unwrap_or_default().into(),
            edition: self.edition,
            tasks: api::tasks_digest(tasks).to_vec(),
        };
        self.answer(from_agent::Message::Back(back));
    }

    /// Another master leads: the one we had, if it is still there, does not.
    fn follow(&mut self, leader: &str) {
        tracing::info!(leader, "another master leads");
        self.next_session();
        self.end_session();
        let now = uptime::millis();
        if let Some(registration) = &mut self.registration {
            registration.handle(registration::Event::Lost, now);
            registration.follow(leader, FOLLOW_WITHIN_MS, now);
        }
    }

    /// The new leader knows something else: it is told everything, on this session.
    pub(super) fn register_in_full(&mut self) {
        let (Some(identity), Some(session)) = (self.identity.clone(), self.session.clone()) else { return };
        let register = self.registering(self.master.clone(), &identity);
        let (generation, events) = (self.generation, self.events.clone());
        tokio::spawn(async move {
            let sent = match register.await {
                Ok(register) => {
                    let message = Some(from_agent::Message::Register(register));
                    session.urgent.send(FromAgent { message }).await.map_err(|error| error.to_string())
                }
                Err(reason) => Err(reason),
            };
            if let Err(reason) = sent {
                let _ = events.send(Event::SessionEnded { generation, reason }).await;
            }
        });
    }

    pub(super) fn end_standby(&mut self) {
        self.drop_waiting();
        self.standby.taken();
    }

    fn drop_waiting(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.link.abort();
        }
    }
}
