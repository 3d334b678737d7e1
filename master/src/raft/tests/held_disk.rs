//! A leader whose disk takes its time: what others have already is acknowledged when the leader has it, too.

use std::sync::{Condvar, Mutex};

use super::several::Cluster;
use super::*;
use crate::disk::{Disk, DiskFile, Opening};

/// The machine's disk, whose syncs can be held up.
#[derive(Clone, Debug, Default)]
struct HeldDisk(Arc<(Mutex<bool>, Condvar)>);

impl HeldDisk {
    fn hold(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    fn let_go(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

impl Disk for HeldDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        Real.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        Real.list(directory)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Real.read(path)
    }

    fn open(&self, path: &Path, opening: Opening) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(HeldFile { file: Real.open(path, opening)?, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Real.remove(path)
    }

    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        Real.sync_directory_of(path)
    }

    fn salt(&self) -> u64 {
        Real.salt()
    }
}

#[derive(Debug)]
struct HeldFile {
    file: Box<dyn DiskFile>,
    disk: HeldDisk,
}

impl DiskFile for HeldFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (held, changed) = &*self.disk.0;
        let waited = changed.wait_timeout_while(held.lock().unwrap(), Duration::from_secs(30), |held| *held).unwrap();
        assert!(!waited.1.timed_out(), "nobody let the disk go on");
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_only_the_others_have_on_their_disks_is_not_acknowledged() {
    let disk = HeldDisk::default();
    let mut cluster = Cluster::found_on(Arc::new(disk.clone()), 1000).await;
    let others = [cluster.add().await, cluster.add().await];
    let leader = &cluster.replicas[&FOUNDER].driver;
    leader.write(vec![subscribe(0)]).await;

    let last = |id: &u64| cluster.replicas[id].driver.replica.election.last.get();
    let before = last(&FOUNDER);
    disk.hold();
    let (replica, term) = (leader.replica.clone(), leader.term.borrow().expect("it leads"));
    let writing = tokio::spawn(async move { replica.write(term, vec![subscribe(1)]).await });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !others.iter().all(|id| last(id) > before) {
        assert!(tokio::time::Instant::now() < deadline, "the others did not get it meanwhile");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Several heartbeats, each of which could say that it is committed.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!writing.is_finished());
    for one in cluster.replicas.values() {
        assert_eq!(*one.driver.frameworks.borrow(), 1);
    }

    disk.let_go();
    writing.await.unwrap().unwrap();
    cluster.all_know(2).await;
}
