//! Descriptors for a child, under numbers it knows.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// Own descriptors are moved above this, so that none lies where another is to be put.
const ABOVE: libc::c_int = 64;

/// Gives a descriptor to the child of this command under a number of its own, from 3 to 63.
///
/// # Errors
/// When there is no room for another descriptor, or the number is none of these.
pub fn pass(command: &mut Command, descriptor: &OwnedFd, number: RawFd) -> io::Result<()> {
    if !(3..ABOVE).contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes integers.
    let moved = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE) };
    if moved < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows its number.
    let moved = unsafe { OwnedFd::from_raw_fd(moved) };
    let place = move || {
        // SAFETY: dup2(2) takes two integers; what is at that number is replaced in the child alone.
        let result = unsafe { libc::dup2(moved.as_raw_fd(), number) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec the closure makes only dup2(2), which is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(place) };
    Ok(())
}

/// Numbers [`take`] has given out in this process.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// What the parent gave this process under a number ([`pass`]); only once. It is closed by the next exec.
///
/// # Errors
/// There is nothing, or it was taken before.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if !(3..ABOVE).contains(&number) || TAKEN.fetch_or(1 << number, Ordering::Relaxed) & (1 << number) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: fcntl(2) with F_SETFD takes integers.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as was just seen, and the parent put it there for whoever takes it; that is done once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets the next exec close everything but the standard streams.
///
/// # Errors
/// What `close_range(2)` says.
pub fn close_all_on_exec() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: close_range(2) takes integers; with this flag it closes nothing now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_reads_from_the_number_it_was_told() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"hello\n").unwrap();
        drop(writer);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read line <&7; echo $line"]);
        pass(&mut command, &reader.into(), 7).unwrap();
        assert_eq!(command.output().unwrap().stdout, b"hello\n");
    }

    #[test]
    fn nothing_is_taken_twice_or_where_nothing_is() {
        assert!(take(2).is_err() && take(63).is_err() && take(63).is_err() && take(1000).is_err());
    }
}
