//! Work that several wait for and one does: each layer is brought here once, however many pulls want it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Everything under way, by name. It goes on as long as somebody waits for it.
#[derive(Debug)]
pub(crate) struct Flights<E>(Mutex<BTreeMap<String, Weak<Flight<E>>>>);

type Outcome<E> = Option<Result<(), Arc<E>>>;

#[derive(Debug)]
struct Flight<E> {
    outcome: watch::Receiver<Outcome<E>>,
    task: AbortHandle,
    cancel: Arc<AtomicBool>,
}

impl<E> Drop for Flight<E> {
    fn drop(&mut self) {
        // Blocking work cannot be aborted and looks at this instead.
        self.cancel.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

/// How a flight came out for one of those who waited.
#[derive(Debug)]
pub(crate) enum Landed<E> {
    /// It is done.
    Done,
    /// Our own work failed.
    Failed(Arc<E>),
    /// Somebody else's did, with what they had; ours may succeed.
    OthersFailed(Arc<E>),
    /// Whoever did it is gone without a word.
    Lost,
}

impl<E: Send + Sync + 'static> Flights<E> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Waits for the work of that name; begins it if nobody has.
    pub(crate) async fn join<F>(&self, name: &str, begin: impl FnOnce(Arc<AtomicBool>) -> F) -> Landed<E>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (flight, ours) = self.board(name, begin);
        let mut outcome = flight.outcome.clone();
        let result = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match result {
            Some(Ok(())) => Landed::Done,
            Some(Err(error)) if ours => Landed::Failed(error),
            Some(Err(error)) => Landed::OthersFailed(error),
            None => Landed::Lost,
        }
    }

    fn board<F>(&self, name: &str, begin: impl FnOnce(Arc<AtomicBool>) -> F) -> (Arc<Flight<E>>, bool)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = all.get(name).and_then(Weak::upgrade)
            && !matches!(*flight.outcome.borrow(), Some(Err(_)))
        {
            return (flight, false);
        }
        let cancel = Arc::new(AtomicBool::new(false));
        let work = begin(cancel.clone());
        let (sender, outcome) = watch::channel(None);
        let task = tokio::spawn(async move {
            let result = work.await.map_err(Arc::new);
            let _ = sender.send(Some(result));
        });
        let flight = Arc::new(Flight { outcome, task: task.abort_handle(), cancel });
        all.insert(name.to_owned(), Arc::downgrade(&flight));
        (flight, true)
    }

    /// The names of what is under way.
    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, flight)| flight.strong_count() > 0).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_many_want_is_done_once() {
        let (flights, done) = (Arc::new(Flights::<&str>::new()), Arc::new(AtomicUsize::new(0)));
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let (flights, done) = (flights.clone(), done.clone());
                tokio::spawn(async move {
                    let work = |_| async move {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        done.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    };
                    flights.join("layer", work).await
                })
            })
            .collect();
        for one in waiting {
            assert!(matches!(one.await.unwrap(), Landed::Done));
        }
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert!(flights.names().is_empty());
    }

    #[tokio::test]
    async fn it_ends_when_nobody_waits_and_not_before() {
        let flights = Arc::new(Flights::<&str>::new());
        let flag = Arc::new(Mutex::new(None));
        let join = |seen: bool| {
            let (flights, flag) = (flights.clone(), flag.clone());
            tokio::spawn(async move {
                let work = move |cancel: Arc<AtomicBool>| {
                    assert!(seen, "the second one finds it under way");
                    *flag.lock().unwrap() = Some(cancel);
                    std::future::pending()
                };
                flights.join("layer", work).await
            })
        };
        let first = join(true);
        tokio::task::yield_now().await;
        let second = join(false);
        tokio::task::yield_now().await;
        let cancel = flag.lock().unwrap().clone().unwrap();
        first.abort();
        let _ = first.await;
        assert!(!cancel.load(Ordering::Relaxed), "one still waits");
        second.abort();
        let _ = second.await;
        assert!(cancel.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_and_tried_again_by_the_next() {
        let flights = Flights::<&str>::new();
        let failed = flights.join("layer", |_| async { Err("no") }).await;
        assert!(matches!(failed, Landed::Failed(error) if *error == "no"));
        assert!(matches!(flights.join("layer", |_| async { Ok(()) }).await, Landed::Done));
    }
}
