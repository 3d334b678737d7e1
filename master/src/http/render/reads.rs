//! Reads of the whole state: pictures taken from the driver, written once for everybody who asks for
//! the same thing at the same time.
//!
//! Of each document there is at most one in the making. Who asks while it is being written shares it
//! if nothing has changed since it was begun, and otherwise waits for the next one, together with all
//! others who do: an answer is never older than its question.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use master_core::View;
use tokio::sync::watch;

use super::pool::{Piece, Pool, Rendering};
use crate::driver::{Handle, Message, Overloaded};

/// Bytes of answers that somebody still reads, all together. More are refused (503): a reader that
/// takes its time must not take the memory.
const MOST_BYTES_HELD: usize = 4 << 30;

/// Which document: two equal keys at one version of the state are the same bytes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    /// The endpoint.
    pub(crate) name: &'static str,
    /// What it was asked for, normalised.
    pub(crate) query: String,
    /// For whom, where that makes a difference.
    pub(crate) principal: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reads {
    pool: Pool,
    held: Arc<AtomicUsize>,
    slots: Mutex<HashMap<Key, Slot>>,
    shared: AtomicU64,
}

/// The document of one key that was begun last.
#[derive(Debug)]
struct Slot {
    version: u64,
    /// How far it is.
    stage: watch::Receiver<Stage>,
    rendering: std::sync::Weak<Rendering>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Somebody is getting the picture for it.
    Claimed,
    Begun,
    Written,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NoRead {
    /// The driver does not answer.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// Too much is being read.
    #[error("too many answers are being read: try again soon")]
    TooMuchHeld,
}

impl NoRead {
    /// What HTTP calls it.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Overloaded(_) | Self::TooMuchHeld => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Reads {
    /// Starts the threads that write.
    pub(crate) fn start() -> Self {
        Self {
            pool: Pool::start(),
            held: Arc::new(AtomicUsize::new(0)),
            slots: Mutex::default(),
            shared: AtomicU64::new(0),
        }
    }

    /// How many requests were answered with what was written for another one.
    pub(crate) fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// The document of that key, begun no earlier than now.
    pub(crate) async fn read(
        &self,
        driver: &Handle,
        key: Key,
        plan: impl FnOnce(Arc<View>) -> Vec<Piece> + Send + 'static,
    ) -> Result<Arc<Rendering>, NoRead> {
        if self.held.load(Ordering::Relaxed) > MOST_BYTES_HELD {
            return Err(NoRead::TooMuchHeld);
        }
        let asked = driver.ask(Message::View).await?;
        loop {
            let mut stage = match self.begin_or_wait(&key, &asked) {
                Turn::Share(rendering) => {
                    self.shared.fetch_add(1, Ordering::Relaxed);
                    return Ok(rendering);
                }
                Turn::Wait(stage) => stage,
                Turn::Begin(stage) => {
                    // What changed while we waited may as well be in it.
                    let view = driver.ask(Message::View).await?;
                    return Ok(self.begin(key, view, stage, plan));
                }
            };
            // Whoever writes it gets on, or is gone: both end the wait.
            drop(stage.changed().await);
        }
    }

    fn begin_or_wait(&self, key: &Key, asked: &View) -> Turn {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(key) {
            match slot.rendering.upgrade() {
                Some(rendering) if slot.version >= asked.version && !rendering.has_failed() => {
                    return Turn::Share(rendering);
                }
                _ if *slot.stage.borrow() != Stage::Written && slot.stage.has_changed().is_ok() => {
                    let mut stage = slot.stage.clone();
                    stage.mark_unchanged();
                    return Turn::Wait(stage);
                }
                _ => {}
            }
        }
        slots.retain(|_, slot| slot.rendering.strong_count() > 0 || *slot.stage.borrow() == Stage::Claimed);
        let (sender, stage) = watch::channel(Stage::Claimed);
        // Claimed: others wait until it is begun, and then share it or wait for its end.
        slots.insert(key.clone(), Slot { version: 0, stage, rendering: std::sync::Weak::new() });
        Turn::Begin(sender)
    }

    fn begin(
        &self,
        key: Key,
        view: Arc<View>,
        stage: watch::Sender<Stage>,
        plan: impl FnOnce(Arc<View>) -> Vec<Piece> + Send + 'static,
    ) -> Arc<Rendering> {
        let version = view.version;
        let rendering = self.pool.render(Box::new(move || plan(view)), self.held.clone());
        let slot = Slot { version, stage: stage.subscribe(), rendering: Arc::downgrade(&rendering) };
        lock(&self.slots).insert(key, slot);
        stage.send_replace(Stage::Begun);
        let following = Arc::downgrade(&rendering);
        let mut progress = rendering.progress();
        tokio::spawn(async move {
            // Ends with the document: its progress ends when nobody holds it.
            loop {
                match following.upgrade() {
                    Some(rendering) if rendering.size().is_none() && !rendering.has_failed() => {}
                    _ => break,
                }
                if progress.changed().await.is_err() {
                    break;
                }
            }
            stage.send_replace(Stage::Written);
        });
        rendering
    }
}

enum Turn {
    Share(Arc<Rendering>),
    Wait(watch::Receiver<Stage>),
    Begin(watch::Sender<Stage>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::fn_params_excessive_bools)] // things change or do not
mod tests {
    use std::time::Duration;

    use master_core::{Config, Input, Master, Now};

    use super::*;
    use crate::http::render::pool::Found;
    use crate::http::render::pool::tests::until_nothing_is_held;

    /// A driver whose state changes with every look when `restless`.
    fn driver(restless: bool) -> Handle {
        let (handle, mut inbox) = Handle::channel();
        tokio::spawn(async move {
            let mut master = Master::new(Config::default(), master_core::State::default());
            while let Some(message) = inbox.recv().await {
                if restless {
                    master.handle(Input::Tick, Now::default());
                }
                if let Message::View(reply) = message {
                    drop(reply.send(master.view()));
                }
            }
        });
        handle
    }

    fn slow(count: Arc<AtomicUsize>) -> impl FnOnce(Arc<View>) -> Vec<Piece> + Send + 'static {
        move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            vec![Box::new(|| {
                std::thread::sleep(Duration::from_millis(100));
                vec![0; 10]
            })]
        }
    }

    async fn ask_ten_times(restless: bool) -> usize {
        let (reads, driver, count) = (Arc::new(Reads::start()), driver(restless), Arc::new(AtomicUsize::new(0)));
        let mut askers = tokio::task::JoinSet::new();
        for number in 0..10 {
            let (reads, driver, count) = (reads.clone(), driver.clone(), count.clone());
            askers.spawn(async move {
                tokio::time::sleep(Duration::from_millis(number)).await;
                let rendering = reads
                    .read(&driver, Key { name: "test", query: String::new(), principal: None }, slow(count))
                    .await
                    .unwrap();
                let mut progress = rendering.progress();
                while matches!(rendering.at(0), Found::NotYet) {
                    progress.changed().await.unwrap();
                }
                assert!(matches!(rendering.at(0), Found::Piece(_)));
            });
        }
        tokio::time::timeout(Duration::from_secs(10), async {
            while askers.join_next().await.transpose().unwrap().is_some() {}
        })
        .await
        .unwrap();
        until_nothing_is_held(&reads.held).await;
        count.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_nothing_changed_is_written_once() {
        assert_eq!(ask_ten_times(false).await, 1);
    }

    #[tokio::test]
    async fn who_asks_while_things_change_waits_for_the_next_one_with_all_others() {
        assert_eq!(ask_ten_times(true).await, 2);
    }
}
