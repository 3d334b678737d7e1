//! Status updates of one task: at least once, in order, until acknowledged (mesos-api 1.6).

use std::collections::VecDeque;

use api::v1::TaskStatus;
use serde::{Deserialize, Serialize};

/// The updates not yet acknowledged, oldest first. Only the oldest is on its way; the next one follows
/// its acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Updates {
    pending: VecDeque<TaskStatus>,
    /// When the oldest is sent (again). Not kept over a restart: then it is sent at once.
    #[serde(skip)]
    send_at_ms: u64,
    #[serde(skip)]
    wait_ms: u64,
}

/// What a program may have said of one task that its framework has not acknowledged.
pub const MOST: usize = 256;
/// The first repetition.
const FIRST_WAIT_MS: u64 = 10_000;
/// No repetition comes later than this after the one before.
const LONGEST_WAIT_MS: u64 = 600_000;

impl Updates {
    /// Adds the newest.
    pub fn push(&mut self, status: TaskStatus, now_ms: u64) {
        if self.pending.is_empty() {
            self.send_now(now_ms);
        }
        self.pending.push_back(status);
    }

    /// Is there room for what a program says? A last word always has: a task has one, and is over with it.
    #[must_use]
    pub fn has_room(&self, status: &TaskStatus) -> bool {
        self.pending.len() < MOST || status.state().is_terminal()
    }

    /// A session has begun: what was sent into the old one counts as lost.
    pub const fn send_now(&mut self, now_ms: u64) {
        self.send_at_ms = now_ms;
        self.wait_ms = 0;
    }

    /// When [`due`](Self::due) has something.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        (!self.pending.is_empty()).then_some(self.send_at_ms)
    }

    /// The oldest, if it is time to send it; the next repetition is then twice as far away.
    pub fn due(&mut self, now_ms: u64) -> Option<&TaskStatus> {
        if self.send_at_ms > now_ms {
            return None;
        }
        let oldest = self.pending.front()?;
        self.wait_ms = (self.wait_ms * 2).clamp(FIRST_WAIT_MS, LONGEST_WAIT_MS);
        self.send_at_ms = now_ms + self.wait_ms;
        Some(oldest)
    }

    /// The framework has seen the update with this uuid. `None` when that is not the oldest: a repeated
    /// or misdirected acknowledgement.
    pub fn acknowledge(&mut self, uuid: &[u8], now_ms: u64) -> Option<TaskStatus> {
        if self.pending.front()?.uuid_bytes()?.as_slice() != uuid {
            return None;
        }
        self.send_now(now_ms);
        self.pending.pop_front()
    }

    /// Something more is known of the newest.
    pub fn change_newest(&mut self, change: impl FnOnce(&mut TaskStatus)) {
        if let Some(newest) = self.pending.back_mut() {
            change(newest);
        }
    }

    /// Nothing is left to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &TaskStatus> {
        self.pending.iter()
    }
}

#[cfg(test)]
mod tests {
    use api::TaskState;

    use super::*;

    fn status(number: u8) -> TaskStatus {
        let mut status = TaskStatus::new("t".into(), TaskState::Running);
        status.uuid = Some(vec![number; 16]);
        status
    }

    #[test]
    fn the_oldest_is_repeated_ten_seconds_doubling_to_ten_minutes() {
        let mut updates = Updates::default();
        updates.push(status(1), 0);
        let mut now = 0;
        for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert!(updates.due(now).is_some());
            assert!(updates.due(now).is_none());
            assert_eq!(updates.deadline_ms(), Some(now + wait * 1000));
            now += wait * 1000;
        }
    }

    #[test]
    fn a_program_that_says_too_much_is_not_heard_but_for_its_last_word() {
        let mut updates = Updates::default();
        for number in 0..MOST {
            let status = status(u8::try_from(number % 256).unwrap());
            assert!(updates.has_room(&status), "{number}");
            updates.push(status, 0);
        }
        assert!(!updates.has_room(&status(1)));
        let mut last = status(1);
        last.state = TaskState::Finished.into();
        assert!(updates.has_room(&last));
    }

    #[test]
    fn the_next_waits_for_the_acknowledgement_and_then_goes_at_once() {
        let mut updates = Updates::default();
        updates.push(status(1), 0);
        updates.push(status(2), 1);
        assert_eq!(updates.due(5).unwrap().uuid_bytes(), Some([1; 16]));
        assert_eq!(updates.acknowledge(&[2; 16], 6), None, "not yet sent");
        assert!(updates.acknowledge(&[1; 16], 7).is_some());
        assert_eq!(updates.acknowledge(&[1; 16], 8), None, "twice");
        assert_eq!(updates.due(8).unwrap().uuid_bytes(), Some([2; 16]));
        assert!(updates.acknowledge(&[2; 16], 9).is_some());
        assert!(updates.is_empty() && updates.deadline_ms().is_none());
    }

    proptest::proptest! {
        /// A link that loses anything: sends, acknowledgements, whole sessions, and the process itself.
        #[test]
        fn no_update_is_lost_or_reordered(events in proptest::collection::vec(0u8..6, 1..200)) {
            let (mut updates, mut now, mut made, mut seen) = (Updates::default(), 0u64, 0u8, Vec::new());
            let mut deliver = |updates: &mut Updates, now: u64, arrives: bool, acked: bool| {
                let Some(uuid) = updates.due(now).and_then(TaskStatus::uuid_bytes) else { return };
                if arrives {
                    if seen.last() != Some(&uuid[0]) { seen.push(uuid[0]); }
                    if acked { updates.acknowledge(&uuid, now); }
                }
            };
            for event in events {
                now += 7_000;
                match event {
                    0 if made < 100 => { made += 1; updates.push(status(made), now); }
                    1 => updates.send_now(now),
                    2 => deliver(&mut updates, now, false, false),
                    3 => deliver(&mut updates, now, true, false),
                    4 => updates = serde_json::from_str(&serde_json::to_string(&updates).unwrap()).unwrap(),
                    _ => deliver(&mut updates, now, true, true),
                }
            }
            for _ in 0..200 {
                now += LONGEST_WAIT_MS;
                deliver(&mut updates, now, true, true);
            }
            proptest::prop_assert!(updates.is_empty());
            proptest::prop_assert_eq!(seen, (1..=made).collect::<Vec<_>>());
        }
    }
}
