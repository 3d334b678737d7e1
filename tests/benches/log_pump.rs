//! What tasks write, on its way to their files: written by themselves, or through a pipe and a pump that copies with
//! plain calls or with tokio-uring. Prints all three of one run (decision 32): `cargo bench -p tests --bench log_pump`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Tasks that write at the same time.
const TASKS: usize = 16;
/// What each writes.
const EACH: usize = 16 << 20;
/// At a time: a line of a log, and a full buffer.
const PIECES: [usize; 2] = [128, 4096];
/// What a pump takes at a time: what a pipe holds.
const BUFFER: usize = 64 << 10;
/// Each is the median of so many.
const ROUNDS: usize = 3;

/// How what was written gets to its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Direct,
    Plain,
    Uring,
}

fn main() -> Result<()> {
    println!("{TASKS} tasks that write {} MiB each, this process's time for all of it, median of {ROUNDS}", EACH >> 20);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("log_pump");
    for piece in PIECES {
        for way in [Way::Direct, Way::Plain, Way::Uring] {
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                match round(&dir, way, piece) {
                    Ok(time) => times.push(time),
                    Err(error) if way == Way::Uring => {
                        println!("{piece:>5} bytes  Uring   not measured: {error:#}");
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            times.sort_unstable();
            if let Some((took, cpu)) = times.get(times.len() / 2) {
                let rate = (TASKS * EACH) as f64 / took.as_secs_f64() / 1e6;
                println!(
                    "{piece:>5} bytes  {way:<7?} {rate:>7.0} MB/s  {:>6.2} s of processor time",
                    cpu.as_secs_f64()
                );
            }
        }
    }
    std::fs::remove_dir_all(&dir).context("cannot remove what was written")
}

/// How long, and how much processor time, tasks included.
fn round(dir: &Path, way: Way, piece: usize) -> Result<(Duration, Duration)> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    let files: Vec<File> = (0..TASKS)
        .map(|number| File::options().create(true).append(true).open(dir.join(number.to_string())))
        .collect::<std::io::Result<_>>()?;
    let (began, before) = (Instant::now(), processor_time()?);
    let mut tasks = Vec::new();
    let mut pipes = Vec::new();
    for file in files {
        let output = if way == Way::Direct {
            file
        } else {
            let (reader, writer) = nix::unistd::pipe()?;
            pipes.push((reader, file));
            File::from(writer)
        };
        tasks.push(std::thread::spawn(move || write(output, piece)));
    }
    match way {
        Way::Direct => {}
        Way::Plain => plain(pipes)?,
        Way::Uring => uring(pipes)?,
    }
    for task in tasks {
        task.join().map_err(|_| anyhow::anyhow!("a task panicked"))??;
    }
    let times = (began.elapsed(), processor_time()?.saturating_sub(before));
    for number in 0..TASKS {
        let length = std::fs::metadata(dir.join(number.to_string()))?.len();
        ensure!(length == EACH as u64, "{length} bytes of {EACH} have come through");
    }
    Ok(times)
}

fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

fn write(mut output: File, piece: usize) -> std::io::Result<()> {
    let mut line = vec![b'x'; piece];
    line[piece - 1] = b'\n';
    for _ in 0..EACH / piece {
        output.write_all(&line)?;
    }
    Ok(())
}

/// One thread, poll(2), read(2), write(2).
fn plain(pipes: Vec<(OwnedFd, File)>) -> Result<()> {
    let mut open: Vec<(File, File)> = pipes.into_iter().map(|(reader, file)| (File::from(reader), file)).collect();
    let mut buffer = vec![0; BUFFER];
    while !open.is_empty() {
        let ready: Vec<bool> = {
            let mut set: Vec<PollFd<'_>> =
                open.iter().map(|(reader, _)| PollFd::new(reader.as_fd(), PollFlags::POLLIN)).collect();
            poll(&mut set, PollTimeout::NONE)?;
            set.iter().map(|fd| fd.any().unwrap_or(true)).collect()
        };
        let mut ended = Vec::new();
        for (at, (reader, file)) in open.iter_mut().enumerate().filter(|(at, _)| ready[*at]) {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                ended.push(at);
            } else {
                file.write_all(&buffer[..count])?;
            }
        }
        for at in ended.into_iter().rev() {
            open.remove(at);
        }
    }
    Ok(())
}

/// One thread, tokio-uring for both.
fn uring(pipes: Vec<(OwnedFd, File)>) -> Result<()> {
    // tokio-uring panics where the kernel refuses.
    io_uring::IoUring::new(8).context("this kernel gives no io_uring")?;
    tokio_uring::start(async {
        let mut copies = Vec::new();
        for (reader, file) in pipes {
            copies.push(tokio_uring::spawn(async move {
                // A pipe has no position: the one that is named is ignored.
                let reader = tokio_uring::fs::File::from_std(File::from(reader));
                let output = tokio_uring::fs::File::from_std(file);
                let (mut buffer, mut position) = (vec![0; BUFFER], 0);
                loop {
                    let (count, taken) = reader.read_at(buffer, 0).await;
                    let count = count?;
                    buffer = taken;
                    if count == 0 {
                        return std::io::Result::Ok(());
                    }
                    buffer.truncate(count);
                    let (written, given) = output.write_all_at(buffer, position).await;
                    written?;
                    buffer = given;
                    buffer.resize(BUFFER, 0);
                    position += count as u64;
                }
            }));
        }
        for copy in copies {
            copy.await.context("a copy ended unexpectedly")??;
        }
        Ok(())
    })
}
