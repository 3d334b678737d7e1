//! Sessions: the one that talks, and the one that waits until its master leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::link::{self, from_agent, from_master, link_client::LinkClient};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Standing, connection};

/// Words on their way to the master. Full: the agent waits, as a real one's core does.
const OUTBOUND: usize = 32;
/// A session opens within it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Both ways of an open session.
pub(super) struct Talk {
    pub(super) outbound: mpsc::Sender<link::FromAgent>,
    pub(super) incoming: Streaming<link::FromMaster>,
}

impl Talk {
    pub(super) async fn open(master: &Arc<str>, tls: &Arc<ClientConfig>, first: from_agent::Message) -> Result<Self> {
        let channel = connection::connect(master, tls).await?;
        let (outbound, stream) = mpsc::channel(OUTBOUND);
        outbound.try_send(link::FromAgent { message: Some(first) })?;
        let mut client = LinkClient::new(channel);
        let opened = tokio::time::timeout(OPEN_TIMEOUT, client.session(ReceiverStream::new(stream))).await;
        let incoming = opened.context("the session does not open")??.into_inner();
        Ok(Self { outbound, incoming })
    }
}

/// A session with a master that does not lead, and its end.
pub(super) struct Standby {
    master: Arc<str>,
    open: Arc<AtomicBool>,
    led: watch::Receiver<Option<u64>>,
    task: JoinHandle<Result<Talk>>,
    talk: Option<Talk>,
    report: watch::Sender<Standing>,
}

impl Standby {
    pub(super) fn open(
        master: Arc<str>,
        tls: Arc<ClientConfig>,
        doors: Arc<Semaphore>,
        report: watch::Sender<Standing>,
        after: Duration,
    ) -> Self {
        let (leads, led) = watch::channel(None);
        let open = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (master, report, opened) = (master.clone(), report.clone(), open.clone());
            async move {
                tokio::time::sleep(after).await;
                let door = doors.acquire_owned().await?;
                let first = from_agent::Message::Standby(link::Standby {});
                let mut talk = Talk::open(&master, &tls, first).await?;
                drop(door);
                report.send_modify(|standing| standing.standby = true);
                opened.store(true, Ordering::Relaxed);
                while let Some(word) = talk.incoming.message().await? {
                    if let Some(from_master::Message::Leading(leading)) = word.message {
                        if !leading.link.is_empty() {
                            bail!("another master leads");
                        }
                        leads.send_replace(Some(leading.term));
                        return Ok(talk);
                    }
                }
                bail!("the session ended")
            }
        });
        Self { master, open, led, task, talk: None, report }
    }

    pub(super) fn master(&self) -> &str {
        &self.master
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) && !self.task.is_finished()
    }

    /// Waits until it leads; returns also when it has gone away.
    pub(super) async fn leads(&mut self) {
        if let Ok(Ok(talk)) = (&mut self.task).await {
            self.talk = Some(talk);
        }
    }

    pub(super) const fn is_leading(&self) -> bool {
        self.talk.is_some()
    }

    pub(super) fn into_talk(mut self) -> Option<Talk> {
        self.talk.take()
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.task.abort();
        self.report.send_modify(|standing| standing.standby = false);
    }
}

/// Waits until the standby's master leads in a later term than ours; one that has gone away is forgotten.
pub(super) async fn led(standby: &mut Option<Standby>, term: u64) {
    loop {
        let Some(waiting) = standby.as_mut().filter(|waiting| !waiting.task.is_finished() || !waiting.is_leading())
        else {
            std::future::pending::<()>().await;
            return;
        };
        waiting.leads().await;
        if !waiting.is_leading() {
            *standby = None;
        } else if waiting.led.borrow().is_some_and(|led| led > term) {
            return;
        }
    }
}
