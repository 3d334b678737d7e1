//! Pseudo-terminals, without going by the path of their other end: whoever owns the directory could have moved it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The other end of a pseudo-terminal's master, unlocked.
///
/// # Errors
/// What `ioctl_tty(2)` says: it is no master.
pub fn open_peer(master: &impl AsFd) -> io::Result<OwnedFd> {
    let master = master.as_fd().as_raw_fd();
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives through the call.
    let result = unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw const unlocked) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TIOCGPTPEER takes flags by value.
    let peer: RawFd =
        unsafe { libc::ioctl(master, libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    if peer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(peer) })
}

/// Says how large a terminal's window is; what runs in it gets SIGWINCH.
///
/// # Errors
/// What `ioctl_tty(2)` says: it is no terminal.
pub fn set_size(terminal: &impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives through the call.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How large a terminal's window is: rows and columns.
///
/// # Errors
/// What `ioctl_tty(2)` says: it is no terminal.
pub fn size(terminal: &impl AsFd) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which lives through the call.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if result == 0 { Ok((size.ws_row, size.ws_col)) } else { Err(io::Error::last_os_error()) }
}

/// Makes a terminal the one of the caller's session, which has none yet.
///
/// # Errors
/// What `ioctl_tty(2)` says.
pub fn control(terminal: &impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer by value.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn what_the_master_writes_its_peer_reads_and_the_size_is_shared() {
        let mut master = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let peer = open_peer(&master).unwrap();
        set_size(&master, 33, 101).unwrap();
        assert_eq!(size(&peer).unwrap(), (33, 101));
        master.write_all(b"hi\n").unwrap();
        let mut said = [0; 3];
        File::from(peer).read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hi\n");
        assert!(open_peer(&File::open("/dev/null").unwrap()).is_err());
    }
}
