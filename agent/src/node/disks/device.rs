//! A disk as a file of bytes: looked into, written in stages, and its partitions found.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::disks::content::{self, Content};
use agent_core::disks::gpt::{Geometry, Write};
use agent_core::disks::layout::Layout;
use hwdetect::Disk;
use hwdetect::signature::Readable;

/// Until the nodes of new partitions are there.
const PARTITIONS: Duration = Duration::from_secs(5);

/// What is looked into.
struct Opened {
    file: File,
    bytes: u64,
}

impl Readable for Opened {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// How a disk is addressed.
pub(crate) fn geometry(disk: &Disk) -> Geometry {
    Geometry { bytes: disk.size_bytes.unwrap_or_default(), sector: disk.logical_sector_bytes.unwrap_or(512) }
}

fn path(disk: &Disk) -> PathBuf {
    Path::new("/dev").join(&disk.name)
}

/// Looks at what is on a disk.
pub(crate) fn look(disk: &Disk) -> Content {
    match File::open(path(disk)) {
        Ok(file) => content::look(&Opened { file, bytes: disk.size_bytes.unwrap_or_default() }, geometry(disk)),
        Err(error) => Content::Unreadable(error.to_string()),
    }
}

/// Is it ours? Of a disk of somebody else's little is read.
pub(crate) fn ours(disk: &Disk) -> Option<Layout> {
    let file = File::open(path(disk)).ok()?;
    content::ours(&Opened { file, bytes: disk.size_bytes.unwrap_or_default() }, geometry(disk))
}

/// What a preparation of ours has written, whether it came to its end or not.
pub(crate) fn begun(disk: &Disk) -> Option<Layout> {
    let file = File::open(path(disk)).ok()?;
    content::begun(&Opened { file, bytes: disk.size_bytes.unwrap_or_default() }, geometry(disk))
}

/// Writes to a disk that nobody else uses; each stage is on the disk before the next begins. Refuses while a partition is
/// mounted or otherwise held.
pub(crate) fn write_alone(disk: &Disk, stages: &[Vec<Write>]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // Of a block device: nobody else may have it.
    let file = File::options().read(true).write(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(path(disk))?;
    write(&file, stages)
}

/// Writes to a disk whoever uses it: when its keys are to go, that counts more.
pub(crate) fn write_anyway(disk: &Disk, stages: &[Vec<Write>]) -> io::Result<()> {
    write(&File::options().read(true).write(true).open(path(disk))?, stages)
}

fn write(file: &File, stages: &[Vec<Write>]) -> io::Result<()> {
    for stage in stages {
        for write in stage {
            file.write_all_at(&write.bytes, write.offset)?;
        }
        file.sync_all()?;
    }
    Ok(())
}

/// Makes the kernel know the partitions that were written.
pub(crate) fn read_partitions(disk: &Disk) -> io::Result<()> {
    let file = File::open(path(disk))?;
    let until = Instant::now() + PARTITIONS;
    loop {
        match agent_sys::disk::read_partitions(&file) {
            // Whoever looks at new disks closes them in a moment.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until => {
                thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

/// The device of the partition that begins there.
pub(crate) fn partition(disk: &str, begin: u64) -> Option<PathBuf> {
    let entries = fs::read_dir(format!("/sys/block/{disk}")).ok()?;
    let of = |name: &str| -> Option<u64> {
        let start = fs::read_to_string(format!("/sys/block/{disk}/{name}/start")).ok()?;
        start.trim().parse::<u64>().ok()?.checked_mul(512)
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let name = names.filter(|name| name.starts_with(disk)).find(|name| of(name) == Some(begin))?;
    Some(Path::new("/dev").join(name))
}

/// The same, once it is there.
pub(crate) fn awaited_partition(disk: &str, begin: u64) -> Option<PathBuf> {
    let until = Instant::now() + PARTITIONS;
    loop {
        match partition(disk, begin).filter(|path| path.exists()) {
            Some(path) => return Some(path),
            None if Instant::now() >= until => return None,
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What tells a disk from one that is plugged in later under the same name.
pub(crate) fn sequence(disk: &Disk) -> String {
    let number = fs::read_to_string(format!("/sys/block/{}/diskseq", disk.name)).unwrap_or_default();
    format!("{} {} {}", disk.name, number.trim(), disk.size_bytes.unwrap_or_default())
}
