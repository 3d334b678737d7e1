//! Three replicas over real connections.

use std::collections::BTreeMap;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::peers::{self, Service};

/// What a master's link does, for the log alone.
#[derive(Clone)]
struct Answering(Replica);

impl Service for Answering {
    async fn answer(&self, caller: &Caller, kind: u8, content: Bytes) -> Result<Vec<u8>, String> {
        self.0.answer(caller, kind, content).await.unwrap()
    }

    fn ended(&self, caller: &Caller) {
        self.0.ended(caller);
    }
}

pub(super) struct One {
    pub(super) driver: Driver,
    serving: tokio::task::JoinHandle<()>,
    directory: tempfile::TempDir,
    options: Options,
}

pub(super) struct Cluster {
    ca: std::sync::Arc<Authority>,
    _ca_directory: tempfile::TempDir,
    pub(super) replicas: BTreeMap<u64, One>,
}

impl Cluster {
    /// A cluster of one.
    async fn found(snapshot_every: u64) -> Self {
        Self::found_on(Real::shared(), snapshot_every).await
    }

    /// The same, its founder on this disk.
    pub(super) async fn found_on(disk: SharedDisk, snapshot_every: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = authority(directory.path());
        let mut cluster = Self { ca, _ca_directory: directory, replicas: BTreeMap::new() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options { disk, ..cluster.options(FOUNDER, &listener, snapshot_every) };
        cluster.start(listener, options, tempfile::tempdir().unwrap()).await;
        cluster.replicas.get_mut(&FOUNDER).unwrap().driver.wait_leading().await;
        cluster
    }

    fn options(&self, id: u64, listener: &TcpListener, snapshot_every: u64) -> Options {
        let member = Member { addr: listener.local_addr().unwrap().to_string(), http: format!("m{id}:5050") };
        Options { id, member, founds: id == FOUNDER, ..options(&self.ca, snapshot_every) }
    }

    async fn start(&mut self, listener: TcpListener, options: Options, directory: tempfile::TempDir) {
        let driver = Driver::start_with(directory.path(), &options).await;
        let tls = crate::link::tls(&self.ca).unwrap();
        let (acceptor, service) = (TlsAcceptor::from(Arc::new(tls)), Answering(driver.replica.clone()));
        let serving = tokio::spawn(async move {
            // Ends with this task, as everything of a killed process does.
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let (stream, remote) = listener.accept().await.unwrap();
                let (acceptor, service) = (acceptor.clone(), service.clone());
                connections.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        peers::serve(stream, remote, number, service).await;
                    }
                });
            }
        });
        self.replicas.insert(options.id, One { driver, serving, directory, options });
    }

    pub(super) async fn add(&mut self) -> u64 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leader = self.leader().await;
        let leading = self.replicas[&leader].driver.replica.clone();
        let snapshot_every = self.replicas[&leader].options.snapshot_every;
        let options = self.options(0, &listener, snapshot_every);
        let id = leading.admit(options.member.clone()).await.unwrap();
        self.start(listener, Options { id, founds: false, ..options }, tempfile::tempdir().unwrap()).await;
        let promoted = async {
            loop {
                match leading.promote(id).await {
                    Ok(()) => return,
                    Err(ChangeError::Behind(..)) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), promoted).await.unwrap();
        id
    }

    /// As if its process was killed.
    async fn kill(&mut self, id: u64) -> One {
        let mut one = self.replicas.remove(&id).unwrap();
        one.serving.abort();
        // Only then is its address free.
        drop((&mut one.serving).await);
        one.driver.replica.stop().await;
        one
    }

    async fn leader(&self) -> u64 {
        let found = async {
            loop {
                for (id, one) in &self.replicas {
                    if one.driver.term.borrow().is_some() {
                        return *id;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("nobody leads")
    }

    pub(super) async fn all_know(&mut self, frameworks: usize) {
        for (id, one) in &mut self.replicas {
            let known = one.driver.frameworks.wait_for(|known| *known == frameworks);
            let known = tokio::time::timeout(Duration::from_secs(20), known).await;
            assert!(known.is_ok(), "replica {id} does not catch up");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_dies_is_replaced_and_nothing_committed_is_lost() {
    let mut cluster = Cluster::found(1000).await;
    cluster.add().await;
    cluster.add().await;
    let mut written = 0;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let driver = &cluster.replicas[&leader].driver;
        for _ in 0..5 {
            driver.write(vec![subscribe(written)]).await;
            written += 1;
        }
        let killed = cluster.kill(leader).await;
        let began = std::time::Instant::now();
        let next = cluster.leader().await;
        println!("round {round}: {next} leads {:?} after {leader} died", began.elapsed());
        assert_ne!(next, leader);
        cluster.replicas[&next].driver.write(vec![subscribe(written)]).await;
        written += 1;
        let listener = TcpListener::bind(&killed.options.member.addr).await.unwrap();
        cluster.start(listener, killed.options, killed.directory).await;
        cluster.all_know(usize::try_from(written).unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whom_agents_wait_for_leads_next() {
    let mut cluster = Cluster::found(1000).await;
    cluster.add().await;
    cluster.add().await;
    for _ in 0..4 {
        let leader = cluster.leader().await;
        let replica = &cluster.replicas[&leader].driver.replica;
        let mut links = replica.links();
        let named = links.wait_for(|links| links.standby.is_some());
        let named = tokio::time::timeout(Duration::from_secs(20), named).await.unwrap().unwrap().standby.clone();
        let seat = |id: &u64| cluster.replicas[id].options.member.addr.clone();
        let next = *cluster.replicas.keys().find(|id| Some(seat(id)) == named).unwrap();
        assert_ne!(next, leader);
        cluster.replicas[&next].driver.replica.set_followed(2);
        let killed = cluster.kill(leader).await;
        assert_eq!(cluster.leader().await, next);
        cluster.replicas[&next].driver.replica.set_followed(0);
        let listener = TcpListener::bind(&killed.options.member.addr).await.unwrap();
        cluster.start(listener, killed.options, killed.directory).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_returns_does_not_unseat_the_leader() {
    let mut cluster = Cluster::found(1000).await;
    cluster.add().await;
    let third = cluster.add().await;
    let leader = cluster.leader().await;
    let term = cluster.replicas[&leader].driver.term.borrow().unwrap();
    assert_ne!(leader, third);
    // It hears nobody and nobody hears it, and it misses the leader many times over.
    let one = cluster.replicas.get_mut(&third).unwrap();
    one.serving.abort();
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.replicas[&leader].driver.write(vec![subscribe(0)]).await;
    let killed = cluster.kill(third).await;
    let listener = TcpListener::bind(&killed.options.member.addr).await.unwrap();
    cluster.start(listener, killed.options, killed.directory).await;
    cluster.all_know(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*cluster.replicas[&leader].driver.term.borrow(), Some(term));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_member_gets_a_snapshot_and_a_removed_one_is_not_asked_any_more() {
    let mut cluster = Cluster::found(20).await;
    for number in 0..70 {
        cluster.replicas[&FOUNDER].driver.write(vec![subscribe(number)]).await;
    }
    let second = cluster.add().await;
    let third = cluster.add().await;
    cluster.all_know(70).await;
    assert!(snapshot_file::read(&Real, cluster.replicas[&second].directory.path()).unwrap().is_some());
    let leading = cluster.replicas[&FOUNDER].driver.replica.clone();
    leading.remove(third).await.unwrap();
    assert!(leading.standing().seat(third).is_none());
    cluster.kill(third).await;
    // With the third one this would still be a majority; without it, both are needed.
    cluster.replicas[&FOUNDER].driver.write(vec![subscribe(70)]).await;
    cluster.all_know(71).await;
    assert_eq!(leading.remove(99).await, Err(ChangeError::Unknown(99)));
    // The founder itself leaves: the other one goes on alone.
    leading.remove(FOUNDER).await.unwrap();
    cluster.kill(FOUNDER).await;
    assert_eq!(cluster.leader().await, second);
    let driver = &mut cluster.replicas.get_mut(&second).unwrap().driver;
    driver.wait_leading().await;
    driver.write(vec![subscribe(71)]).await;
    assert_eq!(driver.replica.remove(second).await, Err(ChangeError::Last(second)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_without_a_majority_ceases_to_lead() {
    let mut cluster = Cluster::found(1000).await;
    let second = cluster.add().await;
    cluster.kill(second).await;
    let leader = cluster.replicas.get_mut(&FOUNDER).unwrap();
    let ceased = leader.driver.term.wait_for(Option::is_none);
    tokio::time::timeout(Duration::from_secs(10), ceased).await.unwrap().unwrap();
}
