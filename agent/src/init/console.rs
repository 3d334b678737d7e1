//! What a person at the machine sees: one line a stage, with the time since boot.
//!
//! On a machine of ours the lines go to every console the kernel writes to, to the kernel's log and to a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use agent_core::handover::PAGE_LINES;

use super::log_file::LogFile;
use super::page::Page;
use crate::uptime;

/// Bytes kept for a console that is slower than we are. When full, lines are dropped for that console alone: a serial
/// line with nobody at its other end must not stop PID 1.
const PENDING_LIMIT: usize = 64 * 1024;

/// The kernel's log levels we write with.
const KMSG_ALERT: u8 = 1;
/// Kept in the kernel's log, but below what the kernel itself prints: we print the line ourselves.
const KMSG_DEBUG: u8 = 7;

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Console {
    screens: Vec<Screen>,
    kernel_log: Option<File>,
    log: Option<LogFile>,
    page: Page,
}

/// What is at the other end of a console.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// A screen: its top is the status page's.
    Screen,
    /// A serial line, or whoever started us.
    Line,
}

#[derive(Debug)]
struct Screen {
    kind: Kind,
    /// Somebody may type there.
    reads: bool,
    file: File,
    pending: VecDeque<u8>,
    dropped: u64,
}

impl Console {
    /// The consoles of this machine. Needs /dev and /sys; without them there is the one the kernel opened for us.
    pub(crate) fn of_machine() -> Console {
        let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let mut screens: Vec<Screen> =
            active.split_whitespace().filter_map(|name| open_tty(&format!("/dev/{name}"))).collect();
        if screens.is_empty() {
            screens.extend(open_tty("/dev/console"));
        }
        let kernel_log = File::options().write(true).open("/dev/kmsg").ok();
        Console { screens, kernel_log, log: None, page: Page::default() }
    }

    /// This process's stderr: hosted mode.
    pub(crate) fn of_process() -> Console {
        let stderr = io::stderr().as_fd().try_clone_to_owned().ok();
        let screens = stderr.map(|fd| Screen::new(Kind::Line, File::from(fd))).into_iter().collect();
        Console { screens, kernel_log: None, log: None, page: Page::default() }
    }

    /// Keeps what is said from now on in a file, too.
    pub(crate) fn keep_in(&mut self, path: &Path) {
        self.log = LogFile::open(path).ok();
    }

    /// Says what `init` itself has done.
    pub(crate) fn say(&mut self, message: impl AsRef<str>) {
        let message = printable(message.as_ref());
        if let Some(log) = &mut self.kernel_log {
            // One write is one record; a full or rate-limited kernel log loses the line, the console has it.
            let _ = log.write_all(format!("<{KMSG_DEBUG}>mesolith: {message}\n").as_bytes());
        }
        let line = stamped("mesolith", &message);
        if let Some(log) = &mut self.log {
            log.append(&line);
        }
        self.show(&line);
    }

    /// Shows this page from now on.
    pub(crate) fn show_page(&mut self, lines: Vec<String>) {
        let lines = lines.iter().take(PAGE_LINES).map(|line| printable(line)).collect();
        if self.page.set(lines) {
            self.draw(|_| true);
        }
    }

    /// The lines somebody may type at.
    pub(crate) fn keyboards(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.screens.iter().enumerate().filter(|(_, screen)| screen.reads).map(|(at, screen)| (at, screen.file.as_fd()))
    }

    /// Somebody typed: whatever it was, the page is what we have to show.
    pub(crate) fn typed(&mut self, at: usize) {
        let Some(screen) = self.screens.get_mut(at) else { return };
        let mut buffer = [0; 256];
        match io::Read::read(&mut screen.file, &mut buffer) {
            Ok(count) if count > 0 => self.draw(|number| number == at),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody types there any more.
            Ok(_) | Err(_) => screen.reads = false,
        }
    }

    fn draw(&mut self, on: impl Fn(usize) -> bool) {
        let (block, drawing) = (self.page.block(), self.page.drawing());
        for (_, screen) in self.screens.iter_mut().enumerate().filter(|(number, _)| on(*number)) {
            match (screen.kind, &block, &drawing) {
                (Kind::Line, Some(block), _) => block.lines().for_each(|line| screen.put(line)),
                (Kind::Screen, _, Some(drawing)) => screen.draw(drawing),
                (Kind::Line | Kind::Screen, _, _) => {}
            }
        }
    }

    /// Shows a line of another process.
    pub(crate) fn relay(&mut self, line: &str) {
        self.show(line);
    }

    fn show(&mut self, line: &str) {
        for screen in &mut self.screens {
            screen.put(line);
        }
    }

    /// The screens with something left to write.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.screens.iter().filter(|screen| !screen.pending.is_empty()).map(|screen| screen.file.as_fd())
    }

    /// Writes what screens take.
    pub(crate) fn flush(&mut self) {
        for screen in &mut self.screens {
            screen.flush();
        }
    }
}

impl Screen {
    fn new(kind: Kind, file: File) -> Screen {
        Screen { kind, reads: false, file, pending: VecDeque::new(), dropped: 0 }
    }

    fn put(&mut self, line: &str) {
        if self.dropped > 0 && self.pending.is_empty() {
            let note = stamped("mesolith", &format!("{} lines not shown: this console was too slow", self.dropped));
            self.dropped = 0;
            self.queue(&note);
        }
        self.queue(line);
        self.flush();
    }

    /// Puts control sequences, whole or not at all.
    fn draw(&mut self, drawing: &str) {
        if self.pending.len() + drawing.len() <= PENDING_LIMIT {
            self.pending.extend(drawing.as_bytes());
            self.flush();
        }
    }

    fn queue(&mut self, line: &str) {
        if self.pending.len() + line.len() + 2 > PENDING_LIMIT {
            self.dropped += 1;
            return;
        }
        self.pending.extend(line.as_bytes());
        self.pending.push_back(b'\n');
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match self.file.write(front) {
                Ok(0) => return,
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A console that was unplugged; what waited for it is lost.
                Err(_) => return self.pending.clear(),
            }
        }
        self.pending.shrink_to(0);
    }
}

fn open_tty(path: &str) -> Option<Screen> {
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // tty1 and tty0 are screens, ttyS0 and hvc0 are lines.
    let number = path.strip_prefix("/dev/tty").unwrap_or("x");
    let kind = if number.bytes().all(|byte| byte.is_ascii_digit()) { Kind::Screen } else { Kind::Line };
    let open = |read| File::options().read(read).write(true).custom_flags(flags.bits()).open(path);
    if let Ok(file) = open(true) {
        return Some(Screen { reads: true, ..Screen::new(kind, file) });
    }
    open(false).ok().map(|file| Screen::new(kind, file))
}

/// A line with its time and speaker.
pub(crate) fn stamped(speaker: &str, message: &str) -> String {
    let now = uptime::millis();
    format!("[{:>5}.{:03}] {speaker}: {message}", now / 1000, now % 1000)
}

/// The text without what would move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() && character != '\t' { '?' } else { character }).collect()
}

/// The last words of a dying `init`: to the kernel's log and the console, with nothing allocated for later.
pub(crate) fn cry_out(message: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("<{KMSG_ALERT}>mesolith: {message}\n").as_bytes());
    }
    if let Some(mut screen) = open_tty("/dev/console") {
        screen.put(&stamped("mesolith", message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2Jb\tc\r"), "a?[2Jb\tc?");
    }

    #[test]
    fn a_slow_screen_loses_lines_and_says_so() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        let mut screen = Screen::new(Kind::Line, writer.into());
        let line = "x".repeat(1000);
        for _ in 0..1000 {
            screen.put(&line);
        }
        assert!(screen.dropped > 0 && screen.pending.len() <= PENDING_LIMIT);
        let mut seen = Vec::new();
        let mut buffer = [0; 65536];
        let mut reader = File::from(reader);
        while let Ok(count) = io::Read::read(&mut reader, &mut buffer) {
            seen.extend_from_slice(&buffer[..count]);
            screen.flush();
        }
        screen.put("the end");
        let count = io::Read::read(&mut reader, &mut buffer).unwrap();
        let last = String::from_utf8_lossy(&buffer[..count]);
        assert!(last.contains("lines not shown") && last.ends_with("the end\n"), "{last}");
    }
}
