//! One RecordIO stream per framework: bounded, and cut off when its reader is too slow.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use api::v1::ContentType;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use master_core::StreamId;
use tokio::sync::{Notify, mpsc};

use crate::driver::{Handle, Message};

/// Events waiting for a scheduler to read. Full: the stream is closed, and the scheduler has to
/// subscribe again and reconcile; one that does not read must not cost the others memory.
const CAPACITY_EVENTS: usize = 1024;
/// The same in bytes; one event may be larger than that when nothing else waits.
const CAPACITY_BYTES: usize = 16 << 20;

/// Ends a connection from outside, whatever it is waiting for.
#[derive(Clone, Debug, Default)]
pub struct Kill(Arc<Notify>);

impl Kill {
    /// Ends it.
    pub fn kill(&self) {
        self.0.notify_one();
    }

    /// Waits for [`kill`](Self::kill).
    pub async fn killed(&self) {
        self.0.notified().await;
    }
}

/// The driver's end of a stream.
#[derive(Debug)]
pub struct EventSink {
    frames: mpsc::Sender<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    kill: Kill,
    content_type: ContentType,
    news: News,
}

/// What a scheduler is told, with the answer to its SUBSCRIBE, of how its last stream ended.
#[derive(Clone, Debug, Default)]
pub struct News(Arc<OnceLock<String>>);

impl News {
    /// Tells it; the first word counts.
    pub fn tell(&self, news: String) {
        drop(self.0.set(news));
    }

    /// What was told.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// The stream does not take the event: it is closed or its reader too slow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overflow;

impl EventSink {
    /// Goes into the head of the answer.
    #[must_use]
    pub fn news(&self) -> News {
        self.news.clone()
    }

    /// How the subscriber wants its records encoded.
    #[must_use]
    pub const fn content_type(&self) -> ContentType {
        self.content_type
    }

    /// Queues one record.
    ///
    /// # Errors
    /// The reader is gone, or was too slow and is now cut off.
    pub fn push(&self, record: Bytes) -> Result<(), Overflow> {
        let length = record.len();
        let waiting = self.waiting_bytes.fetch_add(length, Ordering::Relaxed);
        if (waiting > 0 && waiting + length > CAPACITY_BYTES) || self.frames.try_send(record).is_err() {
            self.kill.kill();
            return Err(Overflow);
        }
        Ok(())
    }
}

/// The connection's end of a stream: one frame, so one chunk, a record.
#[derive(Debug)]
pub struct EventBody {
    frames: mpsc::Receiver<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    stream: StreamId,
    driver: Handle,
}

/// Both ends of a new stream.
#[must_use]
pub fn channel(stream: StreamId, driver: Handle, kill: Kill, content_type: ContentType) -> (EventSink, EventBody) {
    let (sender, frames) = mpsc::channel(CAPACITY_EVENTS);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let sink =
        EventSink { frames: sender, waiting_bytes: waiting_bytes.clone(), kill, content_type, news: News::default() };
    (sink, EventBody { frames, waiting_bytes, stream, driver })
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let record = std::task::ready!(self.frames.poll_recv(cx));
        if let Some(record) = &record {
            self.waiting_bytes.fetch_sub(record.len(), Ordering::Relaxed);
        }
        Poll::Ready(record.map(|record| Ok(Frame::data(record))))
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        // The connection is gone, or the stream was never begun: either way nobody reads it.
        self.driver.tell(Message::StreamClosed(self.stream.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_cut_off_and_a_closed_stream_reported() {
        let (driver, mut inbox) = Handle::channel();
        let kill = Kill::default();
        let (sink, body) = channel(StreamId("s".to_owned()), driver, kill.clone(), ContentType::Json);
        for _ in 0..CAPACITY_EVENTS {
            sink.push(Bytes::from_static(b"x")).unwrap();
        }
        assert_eq!(sink.push(Bytes::from_static(b"x")), Err(Overflow));
        tokio::time::timeout(std::time::Duration::from_secs(1), kill.killed()).await.unwrap();
        drop(body);
        assert!(matches!(inbox.recv().await, Some(Message::StreamClosed(id)) if id.0 == "s"));
    }

    #[tokio::test]
    async fn a_stream_holds_bytes_up_to_its_bound_but_always_one_record() {
        let (driver, _inbox) = Handle::channel();
        let (sink, _body) = channel(StreamId("s".to_owned()), driver, Kill::default(), ContentType::Json);
        sink.push(Bytes::from(vec![0; CAPACITY_BYTES + 1])).unwrap();
        assert_eq!(sink.push(Bytes::from_static(b"x")), Err(Overflow));
    }
}
