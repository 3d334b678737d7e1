//! Turns that each address takes in a line of its own: many behind one address wait for one another, and for nobody else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::address_buckets::network_of;

type Lines = Arc<Mutex<BTreeMap<IpAddr, Arc<Semaphore>>>>;

/// As large as there are addresses that wait or have a turn.
#[derive(Clone, Debug)]
pub(crate) struct AddressTurns {
    most: usize,
    lines: Lines,
}

/// One thing's turn, or its place in the line; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Turn {
    address: IpAddr,
    line: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    lines: Lines,
}

impl AddressTurns {
    /// So many an address at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, lines: Lines::default() }
    }

    /// Waits for a turn; first come, first served.
    pub(crate) async fn take(&self, address: IpAddr) -> Turn {
        let address = network_of(address);
        let line = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.most))).clone()
        };
        let mut turn = Turn { address, line, permit: None, lines: self.lines.clone() };
        turn.permit = turn.line.clone().acquire_owned().await.ok();
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit = None;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody but the list and we know it.
        if Arc::strong_count(&self.line) <= 2 {
            lines.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn those_of_one_address_wait_for_one_another_and_for_nobody_else() {
        let turns = AddressTurns::new(2);
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let held = [turns.take(one).await, turns.take(one).await];
        let other = turns.take(two).await;
        let moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, turns.take(one)).await.is_err(), "the third one waits");
        let mut third = Box::pin(turns.take(one));
        assert!(tokio::time::timeout(moment, &mut third).await.is_err());
        let [first, second] = held;
        drop(first);
        let third = tokio::time::timeout(moment, third).await.expect("it is its turn");
        drop((second, third, other));
        assert!(turns.lines.lock().unwrap().is_empty(), "nothing is kept of who left");
    }
}
