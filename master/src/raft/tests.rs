//! A replica over its disk: restarts, torn tails, snapshots.

use std::fs;

use api::v1::FrameworkInfo;
use master_core::command::SubscribeFramework;

use super::*;

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
    task: tokio::task::JoinHandle<State>,
}

impl Driver {
    async fn start(directory: &Path, snapshot_every: u64) -> Self {
        let options = Options { snapshot_every, address: "127.0.0.1:1".to_owned() };
        let started = start(directory, &options).await.unwrap();
        let (mut state, mut messages) = (Arc::new(started.state), started.messages);
        let (leading, leads) = oneshot::channel();
        let mut leading = Some(leading);
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
                    FromLog::Install { .. } => unreachable!("a single voter is sent no snapshot"),
                    FromLog::Leading(now) => {
                        if let (true, Some(leading)) = (now, leading.take()) {
                            leading.send(()).unwrap();
                        }
                    }
                    FromLog::Failed(_) => break,
                }
            }
            Arc::unwrap_or_clone(state)
        });
        tokio::time::timeout(Duration::from_secs(10), leads).await.unwrap().unwrap();
        Self { replica: started.replica, task }
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
        driver.replica.write(vec![subscribe(2 * number), subscribe(2 * number + 1)]).await.unwrap();
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
    driver.replica.write(vec![subscribe(0)]).await.unwrap();
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
    driver.replica.write(vec![subscribe(1)]).await.unwrap();
    let after = driver.stop().await;
    assert_eq!(after.frameworks.len(), before.frameworks.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_replace_the_log_and_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start(dir.path(), 20).await;
    for number in 0..70 {
        driver.replica.write(vec![subscribe(number)]).await.unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while snapshot_file::read(dir.path()).unwrap().is_none_or(|(meta, _)| meta.last_log_id.unwrap().index < 40) {
        assert!(tokio::time::Instant::now() < deadline, "no snapshot was written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = driver.stop().await;
    assert_eq!(before.frameworks.len(), 70);
    let driver = Driver::start(dir.path(), 20).await;
    driver.replica.write(vec![subscribe(70)]).await.unwrap();
    assert_eq!(driver.stop().await.frameworks.len(), 71);
}
