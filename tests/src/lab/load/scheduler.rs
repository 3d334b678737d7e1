//! A scheduler that launches so many tasks as fast as offers come, and keeps the times.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, watch};

use super::event::{self, Event};
use super::wire::{Calls, Events};

/// Calls that wait to be sent. Full: events are not read, and the master sees a slow scheduler.
const CALLS: usize = 8192;
/// Calls sent together at most.
const PIPELINED: usize = 64;
/// Refused for longer than any run.
const NEVER: f64 = 86_400.0;

/// What one scheduler is to do.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// How many tasks in all.
    pub(super) tasks: usize,
    /// How many at most on one offer.
    pub(super) per_offer: usize,
    /// How many at most at once, ended ones not counted.
    pub(super) at_once: usize,
    /// What each runs; `true` ends at once.
    pub(super) command: &'static str,
    /// Done when all run, rather than when all have ended.
    pub(super) leave_running: bool,
    /// Holds one offer at most, and refuses the others for good.
    pub(super) hold_one: bool,
}

/// The times of one task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) offered: Instant,
    pub(super) accepted: Instant,
    pub(super) running: Option<Instant>,
    pub(super) ended: Option<Instant>,
}

/// A subscribed scheduler.
pub(super) struct Scheduler {
    events: Events,
    calls: mpsc::Sender<String>,
    caller: tokio::task::JoinHandle<Result<()>>,
    framework: String,
    /// Offers held: id, agent, how many tasks fit, since when.
    held: VecDeque<(String, String, usize, Instant)>,
    /// Tasks ever launched, for unused ids.
    launched: usize,
}

impl Scheduler {
    /// Subscribes. While its role is suppressed it gets no offers.
    pub(super) async fn subscribe(address: &str, name: &str, suppressed_roles: &[&str]) -> Result<Self> {
        let body = event::subscribe(name, suppressed_roles);
        let mut events = Events::subscribe(address, event::MEDIA_TYPE, body.as_bytes()).await?;
        let framework = {
            let event: Event<'_> = serde_json::from_slice(events.next().await?)?;
            event.subscribed.context("the first event is SUBSCRIBED")?.framework_id.value.into_owned()
        };
        let headers = format!("Content-Type: {}\r\nMesos-Stream-Id: {}\r\n", event::MEDIA_TYPE, events.stream_id);
        let connection = Calls::connect(address, &headers).await?;
        let (calls, queue) = mpsc::channel(CALLS);
        let caller = tokio::spawn(call(connection, queue));
        Ok(Self { events, calls, caller, framework, held: VecDeque::new(), launched: 0 })
    }

    /// Reads events and keeps offers until `go`.
    pub(super) async fn hold(&mut self, go: &mut watch::Receiver<bool>) -> Result<()> {
        loop {
            tokio::select! {
                record = self.events.next() => {
                    let record = record?.to_vec();
                    self.keep_offers(&serde_json::from_slice(&record)?, Instant::now());
                }
                changed = go.wait_for(|go| *go) => {
                    changed.context("the load was given up")?;
                    return Ok(());
                }
            }
        }
    }

    fn keep_offers(&mut self, event: &Event<'_>, now: Instant) {
        for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
            let (id, agent) = (offer.id.value.to_string(), offer.agent_id.value.to_string());
            self.held.push_back((id, agent, offer.fits(), now));
        }
        if let Some(rescind) = &event.rescind {
            self.held.retain(|(id, ..)| *id != rescind.offer_id.value);
        }
    }

    /// Asks for offers again.
    pub(super) async fn revive(&self) -> Result<()> {
        self.call(event::bare(&self.framework, "REVIVE")).await
    }

    /// Removes the framework, and with it its tasks.
    pub(super) async fn teardown(mut self) -> Result<()> {
        self.call(event::bare(&self.framework, "TEARDOWN")).await?;
        // The stream ends with the framework.
        while self.events.next().await.is_ok() {}
        Ok(())
    }

    async fn decline(&mut self) -> Result<()> {
        let ids: Vec<String> = self.held.drain(..).map(|(id, ..)| id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.call(event::decline(&self.framework, &ids, NEVER)).await
    }

    async fn call(&self, body: String) -> Result<()> {
        self.calls.send(body).await.ok().context("the connection for calls has ended")
    }

    /// Does the job; offers held from before count as made now.
    pub(super) async fn work(&mut self, job: &Job) -> Result<Vec<Times>> {
        let begin = Instant::now();
        self.held.iter_mut().for_each(|offer| offer.3 = begin);
        let first = self.launched;
        let mut times: Vec<Times> = Vec::with_capacity(job.tasks);
        let (mut running, mut ended, mut quiet) = (0, 0, false);
        loop {
            if job.hold_one && self.held.len() > 1 {
                let one = self.held.pop_back();
                self.decline().await?;
                self.held.extend(one);
            }
            self.launch(job, first, &mut times, ended).await?;
            // Whoever needs no more offers says so, or it would keep others from them.
            if times.len() == job.tasks {
                if !quiet {
                    self.call(event::bare(&self.framework, "SUPPRESS")).await?;
                    quiet = true;
                }
                self.decline().await?;
            }
            if ended == job.tasks || (job.leave_running && running == job.tasks) {
                return Ok(times);
            }
            let acknowledgement = {
                let record = tokio::select! {
                    record = self.events.next() => record?.to_vec(),
                    ended = &mut self.caller => {
                        ended??;
                        bail!("the connection for calls has ended");
                    }
                };
                let event: Event<'_> = serde_json::from_slice(&record)?;
                let now = Instant::now();
                self.keep_offers(&event, now);
                if event.kind == "ERROR" {
                    bail!("the master says {}", String::from_utf8_lossy(&record));
                }
                let Some(update) = event.update else { continue };
                let status = update.status;
                let number: usize = status.task_id.value.parse().context("task ids are numbers")?;
                // A task of an earlier job ends whenever it likes.
                if let Some(of_task) = number.checked_sub(first).and_then(|number| times.get_mut(number)) {
                    match &*status.state {
                        "TASK_STAGING" | "TASK_STARTING" => {}
                        "TASK_RUNNING" if of_task.running.is_none() => {
                            of_task.running = Some(now);
                            running += 1;
                        }
                        "TASK_RUNNING" => {}
                        "TASK_FINISHED" if of_task.ended.is_none() => {
                            of_task.ended = Some(now);
                            ended += 1;
                        }
                        "TASK_FINISHED" => {}
                        other => bail!("task {number} is {other}: {}", status.message.unwrap_or_default()),
                    }
                }
                status.uuid.zip(status.agent_id).map(|(uuid, agent)| {
                    event::acknowledge(&self.framework, &agent.value, &status.task_id.value, &uuid)
                })
            };
            if let Some(acknowledgement) = acknowledgement {
                self.call(acknowledgement).await?;
            }
        }
    }

    async fn launch(&mut self, job: &Job, first: usize, times: &mut Vec<Times>, ended: usize) -> Result<()> {
        loop {
            let room = (job.tasks - times.len()).min(job.at_once - (times.len() - ended).min(job.at_once));
            if room == 0 {
                return Ok(());
            }
            let Some((id, agent, fits, offered)) = self.held.pop_front() else { return Ok(()) };
            let count = fits.min(job.per_offer).min(room);
            if count == 0 {
                self.call(event::decline(&self.framework, &[id], 1.0)).await?;
                continue;
            }
            let number = first + times.len();
            self.call(event::accept(&self.framework, &id, &agent, number, count, job.command)).await?;
            self.launched += count;
            let accepted = Instant::now();
            times.resize(times.len() + count, Times { offered, accepted, running: None, ended: None });
        }
    }

    /// Reads events until it holds an offer.
    pub(super) async fn wait_offer(&mut self) -> Result<()> {
        while self.held.is_empty() {
            let record = self.events.next().await?.to_vec();
            self.keep_offers(&serde_json::from_slice(&record)?, Instant::now());
        }
        Ok(())
    }
}

/// Sends calls as they come, together when several wait.
async fn call(mut connection: Calls, mut queue: mpsc::Receiver<String>) -> Result<()> {
    let mut bodies = Vec::with_capacity(PIPELINED);
    while queue.recv_many(&mut bodies, PIPELINED).await > 0 {
        bodies.iter().for_each(|body| connection.push(body.as_bytes()));
        connection.flush(bodies.len()).await?;
        bodies.clear();
    }
    Ok(())
}
