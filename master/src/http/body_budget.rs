//! The memory all request bodies may take together while they are read and handled.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Shared by all connections of a port.
#[derive(Clone, Debug)]
pub(super) struct BodyBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    most: usize,
    used: AtomicUsize,
}

impl BodyBudget {
    /// So many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Budget { most, used: AtomicUsize::new(0) }))
    }

    /// A request begins.
    pub(super) fn start(&self) -> Reading {
        let (taken, refused) = (AtomicUsize::new(0), AtomicBool::new(false));
        Reading(Arc::new(Taken { budget: self.0.clone(), taken, refused }))
    }
}

/// One request's part; given back when the request was handled and its body is gone.
#[derive(Clone, Debug)]
pub(super) struct Reading(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    budget: Arc<Budget>,
    taken: AtomicUsize,
    refused: AtomicBool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.taken.get_mut(), Ordering::Relaxed);
    }
}

impl Reading {
    /// Counts what comes.
    pub(super) fn watch(&self, body: Incoming) -> Counted<Incoming> {
        Counted { body, reading: self.clone() }
    }

    /// Was there no memory for the rest?
    pub(super) fn was_refused(&self) -> bool {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = self.0.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.0.budget.most;
        if !fits {
            self.0.refused.store(true, Ordering::Relaxed);
        }
        fits
    }
}

/// A body within the budget.
pub(super) struct Counted<B> {
    body: B,
    reading: Reading,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.reading.take(data.len())
        {
            return Poll::Ready(Some(Err("this master is reading too much at once".into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn bodies_beyond_the_budget_are_refused_until_others_are_done() {
        let budget = BodyBudget::new(100);
        let read = async |reading: &Reading, length: usize| {
            let body = Full::new(Bytes::from(vec![7; length]));
            Counted { body, reading: reading.clone() }.collect().await.map(|read| read.to_bytes().len())
        };
        let first = budget.start();
        assert_eq!(read(&first, 80).await.unwrap(), 80);
        let second = budget.start();
        assert!(read(&second, 30).await.is_err() && second.was_refused() && !first.was_refused());
        drop((first, second));
        assert_eq!(read(&budget.start(), 100).await.unwrap(), 100);
    }
}
