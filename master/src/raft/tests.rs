//! A replica over its disk: restarts, torn tails, snapshots; and several over real connections.

mod held_disk;
mod several;
mod stored;

use std::fs;
use std::time::Duration;

use api::v1::FrameworkInfo;
use master_core::command::SubscribeFramework;

use super::*;
use crate::authority::Authority;
use crate::disk::Real;

fn subscribe(number: u64) -> Command {
    Command::SubscribeFramework(Box::new(SubscribeFramework {
        framework: format!("m-{number:04}").into(),
        info: FrameworkInfo { user: "root".to_owned(), name: format!("f{number}"), ..FrameworkInfo::default() },
        suppressed_roles: Vec::new(),
        offer_constraints: None,
        stream: format!("stream-{number}"),
        at: number,
    }))
}

/// A driver that only applies.
struct Driver {
    replica: Replica,
    /// In which term it leads.
    term: tokio::sync::watch::Receiver<Option<u64>>,
    /// How many frameworks it knows.
    frameworks: tokio::sync::watch::Receiver<usize>,
    task: tokio::task::JoinHandle<State>,
}

fn authority(directory: &Path) -> std::sync::Arc<Authority> {
    let ca = crate::ca::Ca::open(directory, now_secs()).unwrap();
    let issue = |ca: &crate::ca::Ca| ca.issue("m", &[crate::peers::SERVER_NAME.to_owned()], now_secs());
    Authority::new(directory, ca, issue).unwrap()
}

fn now_secs() -> i64 {
    i64::try_from(crate::clock::unix_ms() / 1000).unwrap()
}

fn options(ca: &std::sync::Arc<Authority>, snapshot_every: u64) -> Options {
    Options {
        snapshot_every,
        id: FOUNDER,
        member: Member { addr: "127.0.0.1:1".to_owned(), http: "127.0.0.1:2".to_owned() },
        founds: true,
        dialer: Dialer::master(ca).unwrap(),
        disk: Real::shared(),
        chance: Chance::System,
    }
}

impl Driver {
    async fn start(directory: &Path, snapshot_every: u64) -> Self {
        let ca = tempfile::tempdir().unwrap();
        let mut driver = Self::start_with(directory, &options(&authority(ca.path()), snapshot_every)).await;
        driver.wait_leading().await;
        driver
    }

    async fn wait_leading(&mut self) -> u64 {
        let leads = self.term.wait_for(Option::is_some);
        tokio::time::timeout(Duration::from_secs(20), leads).await.unwrap().unwrap().unwrap()
    }

    async fn write(&self, commands: Vec<Command>) {
        let term = self.term.borrow().unwrap();
        self.replica.write(term, commands).await.unwrap();
    }

    async fn start_with(directory: &Path, options: &Options) -> Self {
        let started = start(directory, options).await.unwrap();
        let (mut state, mut messages) = (Arc::new(started.state), started.messages);
        let (leading, term) = tokio::sync::watch::channel(None);
        let (known, frameworks) = tokio::sync::watch::channel(state.frameworks.len());
        let task = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                match message {
                    FromLog::Committed { commands, done } => {
                        for command in commands {
                            Arc::make_mut(&mut state).apply(command);
                        }
                        done.send(()).unwrap();
                    }
                    FromLog::Snapshot(reply) => drop(reply.send(state.clone())),
                    FromLog::Install { state: installed, done } => {
                        state = Arc::new(*installed);
                        done.send(()).unwrap();
                    }
                    FromLog::Leading(term) => drop(leading.send(term)),
                    FromLog::Failed(_) => break,
                }
                known.send_replace(state.frameworks.len());
            }
            Arc::unwrap_or_clone(state)
        });
        Self { replica: started.replica, term, frameworks, task }
    }

    async fn stop(self) -> State {
        self.replica.stop().await;
        drop(self.replica);
        tokio::time::timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_gives_back_everything_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start(dir.path(), 1000).await;
    for number in 0..5 {
        driver.write(vec![subscribe(2 * number), subscribe(2 * number + 1)]).await;
    }
    let before = driver.stop().await;
    assert_eq!(before.frameworks.len(), 10);
    let after = Driver::start(dir.path(), 1000).await.stop().await;
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_loses_only_what_was_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start(dir.path(), 1000).await;
    driver.write(vec![subscribe(0)]).await;
    let before = driver.stop().await;
    let segment = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-"))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(&[0x4d, 0x52, 0x46, 0x4d, 1, 2, 3]);
    fs::write(&segment, bytes).unwrap();
    let driver = Driver::start(dir.path(), 1000).await;
    driver.write(vec![subscribe(1)]).await;
    let after = driver.stop().await;
    assert_eq!(after.frameworks.len(), before.frameworks.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_replace_the_log_and_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start(dir.path(), 20).await;
    for number in 0..70 {
        driver.write(vec![subscribe(number)]).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while snapshot_file::read(&Real, dir.path()).unwrap().is_none_or(|(meta, _)| meta.last_log_id.unwrap().index < 40) {
        assert!(tokio::time::Instant::now() < deadline, "no snapshot was written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = driver.stop().await;
    assert_eq!(before.frameworks.len(), 70);
    let driver = Driver::start(dir.path(), 20).await;
    driver.write(vec![subscribe(70)]).await;
    assert_eq!(driver.stop().await.frameworks.len(), 71);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_in_another_term_is_not_applied() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start(dir.path(), 1000).await;
    let term = driver.term.borrow().unwrap();
    // Whoever proposed it hears so, and gets it back.
    let refused = driver.replica.write(term + 1, vec![subscribe(0)]).await;
    assert!(matches!(refused, Err(WriteError::NotLeading(commands)) if commands == [subscribe(0)]));
    driver.replica.write(term, vec![subscribe(1)]).await.unwrap();
    assert_eq!(driver.stop().await.frameworks.len(), 1);
    // Nor when it is read from the disk.
    assert_eq!(Driver::start(dir.path(), 1000).await.stop().await.frameworks.len(), 1);
}

#[test]
fn an_entry_of_before_there_were_terms_is_read() {
    let commands = vec![subscribe(3)];
    let old = rmp_serde::to_vec_named(&OldBatch(Command::encode_batch(&commands))).unwrap();
    let batch: Batch = rmp_serde::from_slice(&old).unwrap();
    assert!(batch.is_of(7));
    assert_eq!(batch.commands().unwrap(), commands);
    let (batch, _) = Batch::new(4, commands.clone());
    let batch: Batch = rmp_serde::from_slice(&rmp_serde::to_vec_named(&batch).unwrap()).unwrap();
    assert!(batch.is_of(4) && !batch.is_of(5));
    assert_eq!(batch.commands().unwrap(), commands);
    let member: Member =
        rmp_serde::from_slice(&rmp_serde::to_vec_named(&openraft::BasicNode::new("a")).unwrap()).unwrap();
    assert_eq!((member.addr.as_str(), member.http.as_str()), ("a", ""));
}

/// As entries were written before.
struct OldBatch(Vec<u8>);

impl serde::Serialize for OldBatch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}
