//! SUBSCRIBE of the operator API: the state, then what changes.
//!
//! One task looks at the state a few times a second while anybody watches, compares it with what it
//! saw last, and tells the difference. What was not touched is the same allocation in both, so that
//! only what changed is looked into. Nothing can be missed between the first picture and the first
//! difference: it is one and the same picture.

mod difference;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::v1::ContentType;
use api::v1::master::{Event, event};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use master_core::View;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::state::{self, Part, Shown};
use crate::driver::{Handle, Message};
use crate::http::auth::Approvers;
use crate::http::overloaded;
use crate::http::render::document::Document;
use crate::http::render::json::Place;
use crate::http::router::Api;
use crate::http::server::Connection;
use crate::subscribers::Kill;
use api::recordio;

/// How soon a change is told.
const LOOK: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Records that wait for a subscriber to read. Full: it is cut off, and has to subscribe again.
const CAPACITY: usize = 4096;
/// The same in bytes, all records of one subscriber together, the first one apart.
const CAPACITY_BYTES: usize = 64 << 20;

/// Those who watch.
#[derive(Debug)]
pub(crate) struct Watchers(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    /// Beyond so many the oldest is closed.
    most: usize,
    /// Oldest first.
    all: Vec<Watcher>,
    /// A task looks.
    looking: bool,
    /// Not told the state yet.
    new: usize,
    /// Taken out of `all`, to be told something.
    being_told: usize,
}

impl Watched {
    /// Closes the oldest streams there are too many of.
    fn close_oldest(&mut self) {
        // Those who are being told something are the older ones: their turn is when they are back.
        while self.being_told == 0 && self.all.len() > self.most {
            tracing::info!("too many watch the events; the oldest one's stream is closed");
            self.all.remove(0).kill.kill();
        }
    }

    /// Closes all streams.
    fn end(&mut self) {
        *self = Self { most: self.most, ..Self::default() };
    }
}

#[derive(Debug)]
struct Watcher {
    records: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    content_type: ContentType,
    approvers: Approvers,
    kill: Kill,
    is_new: bool,
}

impl Watchers {
    /// Nobody, and never more than that (`--max-operator-event-stream-subscribers`).
    pub(crate) fn at_most(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Watched { most, ..Watched::default() })))
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        let watched = lock(&self.0);
        watched.all.len() + watched.being_told
    }
}

/// A heartbeat is due.
#[derive(Clone, Copy, Debug)]
struct Beat;

/// Begins a stream.
pub(super) async fn subscribe(
    api: &Api,
    watchers: &Watchers,
    connection: Connection,
    content_type: ContentType,
    approvers: Approvers,
) -> Response {
    // Asked for the answer only: a driver that does not answer has nothing to tell.
    if let Err(error) = api.driver.ask(Message::View).await {
        return overloaded(error);
    }
    let (records, received) = mpsc::channel(CAPACITY);
    let waiting = Arc::new(AtomicUsize::new(0));
    let read = waiting.clone();
    let watcher = Watcher { records, waiting, content_type, approvers, kill: connection.kill, is_new: true };
    let begin = {
        let mut watched = lock(&watchers.0);
        watched.all.push(watcher);
        watched.new += 1;
        watched.close_oldest();
        !std::mem::replace(&mut watched.looking, true)
    };
    if begin {
        tokio::spawn(look(api.driver.clone(), watchers.0.clone(), api.leading.clone()));
    }
    let body = ReceiverStream::new(received).map(move |record| {
        read.fetch_sub(record.len(), Ordering::Relaxed);
        Ok::<_, std::convert::Infallible>(record)
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type.header()));
    response
}

/// Looks while somebody watches and we lead.
async fn look(driver: Handle, watched: Arc<Mutex<Watched>>, leading: tokio::sync::watch::Receiver<bool>) {
    let mut seen: Option<Arc<View>> = None;
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        let beat = tokio::select! {
            _ = ticks.tick() => None,
            _ = heartbeat.tick() => Some(Beat),
        };
        let view = driver.ask(Message::View).await;
        let (Ok(view), true) = (view, *leading.borrow()) else {
            // Whoever leads next tells them all.
            lock(&watched).end();
            return;
        };
        let changed = seen.as_ref().is_none_or(|seen| seen.version != view.version);
        let told = watched.clone();
        let last = seen.replace(view.clone());
        if changed || beat.is_some() || lock(&watched).new > 0 {
            // Comparing and encoding take a while: not on a thread that others wait for.
            let telling = tokio::task::spawn_blocking(move || tell(&told, last.as_deref(), &view, beat));
            if telling.await.is_err() {
                tracing::error!("telling the watchers of events failed; their streams are closed");
                lock(&watched).end();
                return;
            }
        }
        let mut watched = lock(&watched);
        watched.all.retain(|watcher| !watcher.records.is_closed());
        if watched.all.is_empty() {
            watched.looking = false;
            return;
        }
    }
}

/// Tells what is different now, and the whole state to those who are new.
fn tell(watched: &Mutex<Watched>, last: Option<&View>, view: &Arc<View>, beat: Option<Beat>) {
    let changes = last.map(|last| difference::between(last, view)).unwrap_or_default();
    let mut watchers = {
        let mut watched = lock(watched);
        watched.being_told = watched.all.len();
        std::mem::take(&mut watched.all)
    };
    let heartbeat = Event { r#type: Some(event::Type::Heartbeat.into()), ..Event::default() };
    // Encoded once for all who see everything.
    let mut shared: Vec<[Option<Bytes>; 2]> = vec![[None, None]; changes.len()];
    for watcher in &mut watchers {
        if std::mem::take(&mut watcher.is_new) {
            let shown = Shown { view: view.clone(), approvers: watcher.approvers.clone() };
            watcher.push_first(subscribed(watcher.content_type, &shown));
            watcher.push(record(watcher.content_type, &heartbeat));
            continue;
        }
        for (change, encoded) in changes.iter().zip(&mut shared) {
            if watcher.approvers.sees_all() {
                let place = usize::from(watcher.content_type == ContentType::Protobuf);
                let bytes = encoded[place].get_or_insert_with(|| record(watcher.content_type, &change.event));
                watcher.push(bytes.clone());
            } else if let Some(event) = change.shown_to(&watcher.approvers) {
                watcher.push(record(watcher.content_type, &event));
            }
        }
        if beat.is_some() {
            watcher.push(record(watcher.content_type, &heartbeat));
        }
    }
    let mut watched = lock(watched);
    // Those who came meanwhile stand behind those who were there.
    watchers.append(&mut watched.all);
    watched.new = watchers.iter().filter(|watcher| watcher.is_new).count();
    watched.all = watchers;
    watched.being_told = 0;
    watched.close_oldest();
}

impl Watcher {
    /// The state may be of any size: it is the only record that waits.
    fn push_first(&self, record: Bytes) {
        self.waiting.fetch_add(record.len(), Ordering::Relaxed);
        self.send(record);
    }

    fn push(&self, record: Bytes) {
        let length = record.len();
        let waiting = self.waiting.fetch_add(length, Ordering::Relaxed);
        // As long as it reads what came first, the rest may gather up to the bound.
        if waiting + length > CAPACITY_BYTES && self.records.capacity() < CAPACITY - 1 {
            self.cut();
        } else {
            self.send(record);
        }
    }

    fn send(&self, record: Bytes) {
        if self.records.try_send(record).is_err() {
            self.cut();
        }
    }

    fn cut(&self) {
        if !self.records.is_closed() {
            tracing::warn!("a watcher does not read its events; its stream is closed");
            self.kill.kill();
        }
    }
}

/// The first record: everything there is.
fn subscribed(content_type: ContentType, shown: &Shown) -> Bytes {
    if content_type == ContentType::Protobuf {
        let subscribed = event::Subscribed {
            get_state: Some(shown.state()),
            heartbeat_interval_seconds: Some(HEARTBEAT.as_secs_f64()),
        };
        let first = Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(Box::new(subscribed)),
            ..Event::default()
        };
        return record(content_type, &first);
    }
    let mut document = Document::default();
    document.add(1, Place::First, |json| {
        json.begin();
        json.key("type").string(event::Type::Subscribed.as_str_name());
        json.key("subscribed").begin();
    });
    let mut state = Document::default();
    state::add(&mut state, Part::State, shown);
    document.append(state, Place::First);
    document.add(1, Place::Next, |json| {
        json.key("heartbeat_interval_seconds").double(HEARTBEAT.as_secs_f64());
        json.end();
        json.end();
    });
    let bytes: Vec<u8> = document.into_pieces().into_iter().flat_map(|piece| piece()).collect();
    Bytes::from(recordio::encode(&bytes))
}

fn record(content_type: ContentType, event: &Event) -> Bytes {
    Bytes::from(recordio::encode(&content_type.encode(event)))
}

/// What is behind the lock is never left half changed.
fn lock(mutex: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
