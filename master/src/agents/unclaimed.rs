//! Sessions of machines that nobody has claimed: they show what they are, answer the node API, and offer nothing.

use std::sync::Arc;
use std::time::Duration;

use api::link;
use api::link::from_agent::Message as FromAgent;
use api::link::from_master::Message as FromMaster;
use master_core::claims::{MachineId, Verdict};
use master_core::rules::resolve;
use master_core::state::Kept;
use master_core::{AgentMessage, Registration};
use tokio::sync::{mpsc, watch};

use super::reading::read_change;
use super::{Session, SessionCommand, Stage};
use crate::claims::{Admission, Claims, Seat, Unclaimed, Waiting};
use crate::clock::unix_ms;
use crate::driver::{Message, Opening};

/// How often such a session is pinged, and looks whether this master still leads.
const TICK: Duration = Duration::from_secs(5);

/// Who may come in. Clones share it.
#[derive(Clone)]
pub struct Gate {
    /// The table.
    pub claims: Arc<Claims>,
    /// Those that wait here.
    pub unclaimed: Unclaimed,
}

/// A session that waits.
pub(super) struct Wait {
    seat: Seat,
    changes: watch::Receiver<Kept>,
    tick: tokio::time::Interval,
    registration: Arc<Registration>,
}

/// What a registration comes to.
pub(super) enum Entry {
    /// It goes on.
    In(Opening),
    /// It waits; this is said first.
    Waits(Box<Wait>, Box<FromMaster>),
    /// There is no place for it.
    Full(String),
}

/// What is next in a session that waits.
pub(super) enum Next {
    /// Say this and go on.
    Say(Box<FromMaster>),
    /// Somebody has claimed it.
    Claimed(Opening),
    /// The session ends.
    End,
}

impl Session {
    /// May it come in? Where this master does not lead the driver says who does.
    pub(super) async fn enter(&mut self, opening: Opening, commands: &mpsc::Sender<SessionCommand>) -> Entry {
        let registration = match opening {
            Opening::Registers(registration) if self.gate.claims.admission() == Admission::Claimed && self.leads() => {
                registration
            }
            // Who returns was let in before.
            opening @ (Opening::Registers(_) | Opening::Returns(_)) => return Entry::In(opening),
        };
        let changes = self.gate.claims.changes();
        match self.judge(&registration).await {
            Ok(()) => Entry::In(Opening::Registers(registration)),
            Err(reason) => {
                tracing::info!(node = %self.node, address = %registration.address, %reason, "a machine waits to be claimed");
                let registration: Arc<Registration> = Arc::from(registration);
                let machine = MachineId::of(&registration.facts);
                let waiting = Waiting {
                    registration: registration.clone(),
                    machine,
                    since_ms: unix_ms(),
                    reason: reason.clone(),
                    commands: commands.clone(),
                };
                let Some(seat) = self.gate.unclaimed.seat(self.id, waiting) else {
                    let reason = "more machines wait to be claimed than this master remembers".to_owned();
                    return Entry::Full(reason);
                };
                let mut tick = tokio::time::interval(TICK);
                tick.reset();
                let ping_timeout_ms = u64::try_from(self.ping_timeout.as_millis()).unwrap_or(u64::MAX);
                let word = FromMaster::Unclaimed(link::Unclaimed { ping_timeout_ms, reason });
                Entry::Waits(Box::new(Wait { seat, changes, tick, registration }), Box::new(word))
            }
        }
    }

    /// It goes on with the driver, or waits to be claimed, which is the word.
    pub(super) async fn come_in(
        &mut self,
        commands: mpsc::Sender<SessionCommand>,
        opening: Opening,
    ) -> Option<Option<FromMaster>> {
        match self.enter(opening, &commands).await {
            Entry::In(opening) => self.open(commands, opening).await.map(|()| None),
            Entry::Waits(wait, word) => {
                self.stage = Stage::Unclaimed(commands, wait);
                Some(Some(*word))
            }
            Entry::Full(reason) => {
                tracing::warn!(node = %self.node, %reason, "a machine is sent away for now");
                Some(Some(FromMaster::Refused(link::Refused { reason, retry: true, leader: String::new() })))
            }
        }
    }

    /// Is this master the one that decides?
    fn leads(&self) -> bool {
        let standing = self.replica.standing();
        standing.leader == Some(standing.id)
    }

    /// Why it has to wait, if it has to. A claim by a rule is committed before it comes in.
    pub(super) async fn judge(&mut self, registration: &Registration) -> Result<(), String> {
        let machine = MachineId::of(&registration.facts);
        let rules = match self.driver.ask(Message::View).await {
            Ok(view) => view.state.rules.clone(),
            Err(error) => return Err(error.to_string()),
        };
        let known = resolve(self.node.as_str(), &registration.address, &registration.facts, &rules);
        match self.gate.claims.verdict(&self.node, &machine, &known.attributes) {
            Verdict::Admitted => Ok(()),
            Verdict::Waits(reason) => Err(reason),
            Verdict::Claims(how) => {
                let (claims, node) = (self.gate.claims.clone(), self.node.clone());
                let claimed = tokio::task::spawn_blocking(move || {
                    let done = claims.claim(&[(node.clone(), machine)], &how, "mesolith");
                    done.map(|()| tracing::info!(%node, ?how, "a machine is claimed"))
                });
                match claimed.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("the claim was not written down: {error}")),
                    Err(_) => Err("claiming failed".to_owned()),
                }
            }
        }
    }

    /// The next thing in a session that waits.
    pub(super) async fn wait(&mut self, wait: &mut Wait) -> Next {
        loop {
            tokio::select! {
                word = self.inbound.message() => match word {
                    Ok(Some(link::FromAgent { message: Some(word) })) => match self.heard_unclaimed(wait, word) {
                        Ok(None) => {}
                        Ok(Some(word)) => return Next::Say(Box::new(word)),
                        Err(()) => return Next::End,
                    },
                    Ok(Some(link::FromAgent { message: None })) => {}
                    Ok(None) | Err(_) => return Next::End,
                },
                command = self.queue.recv() => {
                    let Some(command) = command else { return Next::End };
                    match self.command(command) {
                        Ok(Some(word)) => return Next::Say(Box::new(word)),
                        Ok(None) => {}
                        Err(_) => return Next::End,
                    }
                }
                changed = wait.changes.changed() => {
                    if changed.is_err() {
                        return Next::End;
                    }
                    if let Err(reason) = self.standbys.check(self.holder.as_ref()) {
                        tracing::warn!(node = %self.node, %reason, "a machine that waits is sent away");
                        return Next::End;
                    }
                    match self.judge(&wait.registration).await {
                        Ok(()) => {
                            let registration = Box::new(Registration::clone(&wait.registration));
                            return Next::Claimed(Opening::Registers(registration));
                        }
                        Err(reason) => wait.seat.update(|waiting| waiting.reason = reason),
                    }
                }
                _ = wait.tick.tick() => {
                    // Another one leads: the agent finds it.
                    if !self.leads() {
                        return Next::End;
                    }
                    return Next::Say(Box::new(FromMaster::Ping(link::Ping { nonce: 0 })));
                }
            }
        }
    }

    /// What a machine says that waits: it answers what it is asked.
    fn heard_unclaimed(&mut self, wait: &mut Wait, word: FromAgent) -> Result<Option<FromMaster>, ()> {
        match word {
            FromAgent::NodeReply(reply) => {
                self.reply(reply);
                Ok(None)
            }
            FromAgent::FileChunk(chunk) => self.chunk(chunk).map_err(|_| ()),
            FromAgent::CrashReport(report) => Ok(self.crash(report)),
            FromAgent::Capacity(capacity) => {
                let change = read_change(capacity);
                if let Ok(AgentMessage::Capacity { resources, attributes, facts, inventory_json, edition }) = change {
                    let mut registration = Registration::clone(&wait.registration);
                    registration.resources = resources;
                    registration.attributes = attributes;
                    registration.facts = facts;
                    registration.edition = edition;
                    if let Some(inventory_json) = inventory_json {
                        registration.inventory_json = inventory_json;
                    }
                    wait.registration = Arc::new(registration.clone());
                    wait.seat.update(|waiting| {
                        waiting.machine = MachineId::of(&registration.facts);
                        waiting.registration = Arc::new(registration);
                    });
                    // What is new may fit a rule.
                    wait.changes.mark_changed();
                }
                Ok(None)
            }
            FromAgent::Register(_) | FromAgent::Back(_) | FromAgent::Standby(_) => Err(()),
            // Not ours yet: it is not told who may do what.
            FromAgent::Inquiry(_)
            | FromAgent::DiskKeyWanted(_)
            | FromAgent::Update(_)
            | FromAgent::Pong(_)
            | FromAgent::ExecutorMessage(_)
            | FromAgent::ExecutorEnded(_)
            | FromAgent::ExecOutput(_)
            | FromAgent::FileList(_) => Ok(None),
        }
    }
}
