//! Gives memory back that only the start of a program needed.

use std::fs;
use std::io;

/// Unmaps the pages of this program's code and constants; those still needed come back from the file at the next
/// touch. Worth it once, in a small process that has done the unusual part of its work.
///
/// # Errors
/// When the kernel does not tell the mappings or refuses.
pub fn forget_code_pages() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for (start, end) in maps.lines().filter_map(|line| unwritten(line, program.to_str()?)) {
        // SAFETY: the range is a private mapping of our own program's file that was never written: MADV_DONTNEED
        // drops its pages and the next access reads the same bytes from the file again.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The addresses of a mapping of the program's file that nothing ever writes to: its code, and the constants at the
/// file's beginning. Not the read-only mapping after the code: the program was relocated there before it was
/// protected.
fn unwritten(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let code = permissions == "r-xp";
    let constants = permissions == "r--p" && offset.bytes().all(|digit| digit == b'0');
    if path != program || !(code || constants) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_leading_constants_are_forgotten() {
        for (line, expected) in [
            ("7f00-7f80 r--p 00000000 00:01 12    /init", Some((0x7f00, 0x7f80))),
            ("7f80-8000 r-xp 00080000 00:01 12    /init", Some((0x7f80, 0x8000))),
            ("8000-8100 r--p 00100000 00:01 12    /init", None),
            ("8100-8200 rw-p 00110000 00:01 12    /init", None),
            ("9000-9100 r-xp 00000000 00:00 0    [vdso]", None),
            ("9000-9100 r-xp 00000000 00:01 13    /lib/other", None),
            ("9000-9100 rw-p 00000000 00:00 0", None),
        ] {
            assert_eq!(unwritten(line, "/init"), expected, "{line}");
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        forget_code_pages().unwrap();
        assert_eq!(format!("{:?}", [1.5, 2.5]), "[1.5, 2.5]");
    }
}
