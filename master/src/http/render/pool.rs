//! Threads that write documents in pieces, and the pieces as they become ready.
//!
//! Large answers are written away from the runtime's threads, by several at once, and are sent while
//! they are written. The threads are few and their pieces short, so that the driver always finds a core.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

/// More would only take cores from the driver.
const MOST_THREADS: usize = 4;

/// One piece of a document, to be written by whoever is free.
pub(crate) type Piece = Box<dyn FnOnce() -> Vec<u8> + Send>;
/// Finds out which pieces there are. Runs on one of the threads, too.
pub(crate) type Plan = Box<dyn FnOnce() -> Vec<Piece> + Send>;

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Pool {
    queue: Arc<Queue>,
    threads: usize,
}

struct Queue {
    work: Mutex<VecDeque<Work>>,
    arrived: Condvar,
    closed: AtomicBool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

enum Work {
    Plan(Arc<Rendering>, Plan),
    Help(Arc<Rendering>),
}

/// A document that is being written, or is.
pub(crate) struct Rendering {
    state: Mutex<State>,
    /// How many pieces are done; all readers look again when it changes.
    done: watch::Sender<usize>,
    /// Bytes of all documents that somebody still reads.
    held: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    todo: VecDeque<(usize, Piece)>,
    pieces: Vec<Option<Bytes>>,
    left: usize,
    planned: bool,
    failed: bool,
    bytes: usize,
}

/// What a reader finds at a place.
pub(crate) enum Found {
    /// That piece.
    Piece(Bytes),
    /// It is not written yet.
    NotYet,
    /// There is no more.
    End,
    /// It never will be: writing it failed.
    Failed,
}

impl Pool {
    /// Starts the threads.
    pub(crate) fn start() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_THREADS);
        let queue = Arc::new(Queue { work: Mutex::default(), arrived: Condvar::new(), closed: AtomicBool::new(false) });
        let mut started = 0;
        for number in 0..threads {
            let queue = queue.clone();
            let spawned = std::thread::Builder::new().name(format!("render-{number}")).spawn(move || queue.serve());
            match spawned {
                Ok(_) => started += 1,
                Err(error) => tracing::warn!(%error, "a thread for rendering could not be started"),
            }
        }
        Self { queue, threads: started }
    }

    /// Writes a document. `held` counts its bytes until the last reader is gone.
    pub(crate) fn render(&self, plan: Plan, held: Arc<AtomicUsize>) -> Arc<Rendering> {
        let rendering = Arc::new(Rendering { state: Mutex::default(), done: watch::Sender::new(0), held });
        if self.threads == 0 {
            lock(&rendering.state).failed = true;
            return rendering;
        }
        lock(&self.queue.work).push_back(Work::Plan(rendering.clone(), plan));
        self.queue.arrived.notify_one();
        rendering
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.closed.store(true, Ordering::Release);
        self.queue.arrived.notify_all();
    }
}

impl Queue {
    fn serve(&self) {
        while let Some(work) = self.next() {
            let rendering = match &work {
                Work::Plan(rendering, _) | Work::Help(rendering) => rendering.clone(),
            };
            // A piece that panics must not leave its readers waiting, nor take this thread away.
            if catch_unwind(AssertUnwindSafe(|| self.perform(work))).is_err() {
                rendering.fail();
            }
        }
    }

    fn perform(&self, work: Work) {
        match work {
            Work::Plan(rendering, plan) => {
                let pieces = plan();
                let helpers = pieces.len().saturating_sub(1).min(MOST_THREADS - 1);
                rendering.planned(pieces);
                let mut work = lock(&self.work);
                for _ in 0..helpers {
                    work.push_front(Work::Help(rendering.clone()));
                }
                drop(work);
                self.arrived.notify_all();
                rendering.write_pieces();
            }
            Work::Help(rendering) => rendering.write_pieces(),
        }
    }

    fn next(&self) -> Option<Work> {
        let mut work = lock(&self.work);
        loop {
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            if let Some(first) = work.pop_front() {
                return Some(first);
            }
            work = self.arrived.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Rendering {
    fn fail(&self) {
        lock(&self.state).failed = true;
        self.done.send_modify(|done| *done += 1);
    }

    fn planned(&self, pieces: Vec<Piece>) {
        let mut state = lock(&self.state);
        state.pieces = vec![None; pieces.len()];
        state.left = pieces.len();
        state.todo = pieces.into_iter().enumerate().collect();
        state.planned = true;
        drop(state);
        self.done.send_modify(|done| *done += 1);
    }

    fn write_pieces(&self) {
        loop {
            let next = lock(&self.state).todo.pop_front();
            let Some((at, piece)) = next else { return };
            let bytes = Bytes::from(piece());
            self.held.fetch_add(bytes.len(), Ordering::Relaxed);
            let mut state = lock(&self.state);
            state.bytes += bytes.len();
            state.pieces[at] = Some(bytes);
            state.left -= 1;
            drop(state);
            self.done.send_modify(|done| *done += 1);
            // A short pause for whoever waits for this core.
            std::thread::yield_now();
        }
    }

    /// The piece at a place.
    pub(crate) fn at(&self, at: usize) -> Found {
        let state = lock(&self.state);
        match state.pieces.get(at) {
            Some(Some(piece)) => Found::Piece(piece.clone()),
            _ if state.failed => Found::Failed,
            None if state.planned => Found::End,
            Some(None) | None => Found::NotYet,
        }
    }

    /// All of it, if it is written: the number of its bytes. `None` while it is not.
    pub(crate) fn size(&self) -> Option<usize> {
        let state = lock(&self.state);
        (state.planned && state.left == 0).then_some(state.bytes)
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Will it never be whole?
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.state).failed
    }

    /// To be told of progress.
    pub(crate) fn progress(&self) -> watch::Receiver<usize> {
        self.done.subscribe()
    }
}

impl Drop for Rendering {
    fn drop(&mut self) {
        self.held.fetch_sub(lock(&self.state).bytes, Ordering::Relaxed);
    }
}

/// What is behind these locks is never left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A thread that wrote the last piece may hold the document a moment longer.
    pub(crate) async fn until_nothing_is_held(held: &AtomicUsize) {
        let wait = async {
            while held.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap();
    }

    #[tokio::test]
    async fn pieces_come_in_their_order_whoever_writes_them() {
        let pool = Pool::start();
        let held = Arc::new(AtomicUsize::new(0));
        let plan: Plan = Box::new(|| {
            (0..50_u8)
                .map(|number| -> Piece {
                    Box::new(move || {
                        std::thread::sleep(std::time::Duration::from_micros(u64::from(number % 7) * 200));
                        vec![number]
                    })
                })
                .collect()
        });
        let rendering = pool.render(plan, held.clone());
        let (mut progress, mut at) = (rendering.progress(), 0);
        loop {
            match rendering.at(at) {
                Found::Piece(piece) => {
                    assert_eq!(usize::from(piece[0]), at);
                    at += 1;
                }
                Found::NotYet => progress.changed().await.unwrap(),
                Found::End => break,
                Found::Failed => panic!("failed"),
            }
        }
        assert_eq!((at, rendering.size(), held.load(Ordering::Relaxed)), (50, Some(50), 50));
        drop(rendering);
        drop(pool);
        until_nothing_is_held(&held).await;
    }

    #[tokio::test]
    async fn a_piece_that_panics_fails_its_document_and_no_other() {
        let pool = Pool::start();
        let held = Arc::new(AtomicUsize::new(0));
        for _ in 0..MOST_THREADS {
            let rendering = pool.render(Box::new(|| vec![Box::new(|| panic!("on purpose"))]), held.clone());
            let mut progress = rendering.progress();
            while !rendering.has_failed() {
                progress.changed().await.unwrap();
            }
        }
        let rendering = pool.render(Box::new(|| vec![Box::new(|| vec![1])]), held);
        let mut progress = rendering.progress();
        let wait = async {
            while rendering.size().is_none() {
                progress.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap();
    }
}
