//! The log's promises at the edges: what a crash, a snapshot or a late follower meets there.

use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use super::*;
use crate::raft::segment_log::LogError;
use crate::raft::types::{Entry, LogId};

fn id(index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(1, FOUNDER), index)
}

fn entries(range: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    range.map(|index| Entry { log_id: id(index), payload: EntryPayload::Blank }).collect()
}

fn open(directory: &Path) -> (Result<LogStore, LogError>, watch::Sender<Safe>) {
    let (safe, snapshot) = watch::channel(Safe::default());
    (LogStore::open(FOUNDER, Real::shared(), directory, snapshot, Room::default()), safe)
}

async fn filled(directory: &Path, upto: u64) -> (LogStore, watch::Sender<Safe>) {
    let (store, safe) = open(directory);
    let mut store = store.unwrap();
    store.blocking_append(entries(0..=upto)).await.unwrap();
    (store, safe)
}

fn segments(directory: &Path) -> Vec<u8> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let logs = paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-"));
    logs.flat_map(|path| fs::read(path).unwrap()).collect()
}

#[tokio::test]
async fn nothing_is_purged_before_the_snapshot_that_takes_its_place_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, safe) = filled(dir.path(), 6).await;
    let before = segments(dir.path());
    let mut purging = store.clone();
    let mut purge = tokio::spawn(async move { purging.purge(id(4)).await.map(|()| purging) });
    safe.send_modify(|safe| safe.extend(Some(id(3))));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut purge).await.is_err(), "it did not wait");
    assert_eq!(segments(dir.path()), before);
    assert!(!dir.path().join("purged").exists());
    // Without power just now, all of it would be there.
    let mut again = open(dir.path()).0.unwrap();
    assert_eq!(again.try_get_log_entries(0..).await.unwrap(), entries(0..=6));
    safe.send_modify(|safe| safe.extend(Some(id(4))));
    let mut store = purge.await.unwrap().unwrap();
    let state = store.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(4)), Some(id(6))));
    // One that could not be written takes nobody's place.
    safe.send_modify(|safe| safe.failed = true);
    assert!(store.purge(id(5)).await.is_err());
    assert_eq!(open(dir.path()).0.unwrap().try_get_log_entries(5..).await.unwrap(), entries(5..=6));
}

#[tokio::test]
async fn a_log_with_a_snapshot_over_a_gap_opens_again_and_one_with_a_hole_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, safe) = filled(dir.path(), 5).await;
    // The leader's snapshot stands for entries that never came here.
    safe.send_modify(|safe| safe.extend(Some(id(40))));
    store.purge(id(40)).await.unwrap();
    assert_eq!(store.last().get(), Some(id(40)));
    store.blocking_append(entries(41..=43)).await.unwrap();
    let (again, safe) = open(dir.path());
    let mut again = again.unwrap();
    let state = again.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(40)), Some(id(43))));
    assert_eq!(again.try_get_log_entries(0..).await.unwrap(), entries(41..=43));
    safe.send_modify(|safe| safe.extend(Some(id(41))));
    again.purge(id(41)).await.unwrap();
    // Nothing says any more what the missing entries were.
    fs::remove_file(dir.path().join("purged")).unwrap();
    let refused = open(dir.path()).0.unwrap_err();
    assert!(matches!(refused, LogError::Gap { .. }), "{refused}");
}

#[tokio::test]
async fn a_follower_is_never_sent_entries_that_do_not_follow() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, safe) = filled(dir.path(), 9).await;
    assert_eq!(store.limited_get_log_entries(3, 6).await.unwrap(), entries(3..=5));
    safe.send_modify(|safe| safe.extend(Some(id(4))));
    store.purge(id(4)).await.unwrap();
    // 5 would be taken for 3.
    assert_eq!(store.limited_get_log_entries(3, 6).await.unwrap(), []);
    assert_eq!(store.limited_get_log_entries(5, 7).await.unwrap(), entries(5..=6));
    // The same, read from the disk.
    let mut again = open(dir.path()).0.unwrap();
    assert_eq!(again.limited_get_log_entries(3, 6).await.unwrap(), []);
    assert_eq!(again.limited_get_log_entries(5, 7).await.unwrap(), entries(5..=6));
}

/// A leader that starts again in its old term knows not even what it had committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_leads_before_what_is_in_the_log_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start(dir.path(), 1000).await;
    for number in 0..3 {
        driver.write(vec![subscribe(number)]).await;
    }
    driver.stop().await;
    let ca = tempfile::tempdir().unwrap();
    let mut started = start(dir.path(), &options(&authority(ca.path()), 1000)).await.unwrap();
    let mut applied = 0;
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), started.messages.recv()).await.unwrap().unwrap();
        match message {
            FromLog::Committed { commands, done } => {
                // A driver that takes its time.
                let early = tokio::time::timeout(Duration::from_millis(1500), started.messages.recv()).await;
                assert!(early.is_err(), "{early:?} after {applied} commands");
                assert!(!leadership::applied(&started.replica).await);
                applied += commands.len();
                done.send(()).unwrap();
            }
            FromLog::Leading(Some(_)) => break,
            FromLog::Leading(None) | FromLog::Snapshot(_) | FromLog::Install { .. } | FromLog::Failed(_) => {
                panic!("nothing of this kind is due")
            }
        }
    }
    assert_eq!(applied, 3);
    assert!(leadership::applied(&started.replica).await);
    started.replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_meant_for_another_replica_is_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start(dir.path(), 1000).await;
    let caller = Caller { remote: "127.0.0.1:1".parse().unwrap(), master: Some("m".to_owned()), connection: 1 };
    let vote = openraft::raft::VoteRequest { vote: openraft::Vote::new(1, 7), last_log_id: None };
    let question = rmp_serde::to_vec_named(&vote).unwrap();
    let addressed = |target: u64| [&question[..], &target.to_le_bytes()].concat();
    let ask = |content: Vec<u8>| driver.replica.answer(&caller, kind::VOTE, content.into());
    let refused = ask(addressed(9)).await.unwrap().unwrap_err();
    assert!(refused.contains("replica 9 is here no more"), "{refused}");
    assert!(ask(addressed(FOUNDER)).await.unwrap().is_ok());
    // Earlier versions do not say whom they mean.
    assert!(ask(question.clone()).await.unwrap().is_ok());
    driver.stop().await;
}
