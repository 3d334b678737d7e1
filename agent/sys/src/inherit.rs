//! Descriptors for a child, under numbers it knows.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives a descriptor to the child of this command under a number of its own. Numbers must be above the descriptors
/// given, or below and of standard streams' kind: the caller uses small ones, and gives each only once.
pub fn pass(command: &mut Command, descriptor: OwnedFd, number: RawFd) {
    let place = move || {
        // SAFETY: dup2(2) takes two integers. Both are open or become so in this child alone.
        let result = unsafe { libc::dup2(descriptor.as_raw_fd(), number) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        if descriptor.as_raw_fd() == number {
            // dup2 changes nothing then, and the number would be closed by exec.
            // SAFETY: fcntl(2) with F_SETFD takes integers.
            let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes only dup2(2) and fcntl(2), which are async-signal-safe, and
    // allocates nothing.
    unsafe { command.pre_exec(place) };
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
        pass(&mut command, reader.into(), 7);
        assert_eq!(command.output().unwrap().stdout, b"hello\n");
    }
}
