//! A system call filter that was translated before.

use std::io;

/// A program of the kernel's packet filter.
#[derive(Clone)]
pub struct Program(Vec<libc::sock_filter>);

/// What one instruction takes.
const INSTRUCTION: usize = 8;

impl Program {
    /// Of instructions as they lie in memory; `None` if that is no whole number of them, or none, or more than the
    /// kernel takes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let whole = !bytes.is_empty() && bytes.len().is_multiple_of(INSTRUCTION);
        if !whole || bytes.len() / INSTRUCTION > usize::try_from(libc::BPF_MAXINSNS).ok()? {
            return None;
        }
        let one = |bytes: &[u8]| {
            let [code_0, code_1, jt, jf, k @ ..] = bytes else { return None };
            let code = u16::from_ne_bytes([*code_0, *code_1]);
            Some(libc::sock_filter { code, jt: *jt, jf: *jf, k: u32::from_ne_bytes(k.try_into().ok()?) })
        };
        bytes.chunks_exact(INSTRUCTION).map(one).collect::<Option<Vec<_>>>().map(Self)
    }

    /// How many instructions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: an empty one is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Filters the calls of this thread from now on, and of everything it becomes or starts.
    ///
    /// # Errors
    /// What `seccomp(2)` says: EACCES for a process that could still gain privileges, EINVAL for a program that is none.
    pub fn load(&self) -> io::Result<()> {
        let len = u16::try_from(self.0.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len, filter: self.0.as_ptr().cast_mut() };
        let flags: libc::c_ulong = 0;
        // SAFETY: the kernel copies `len` instructions from `filter`, which are borrowed from `self` for the call; it
        // checks them and writes nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
                flags,
                &raw const program,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Program({} instructions)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_instructions_are_a_program() {
        assert!(Program::from_bytes(&[]).is_none() && Program::from_bytes(&[0; 12]).is_none());
        assert!(Program::from_bytes(&[0; 8 * 5000]).is_none());
        let program = Program::from_bytes(&[6, 0, 1, 2, 0, 0, 255, 127]).unwrap();
        let [one] = &program.0[..] else { panic!("{program:?}") };
        assert_eq!((one.code, one.jt, one.jf, one.k), (6, 1, 2, 0x7fff_0000));
    }

    #[test]
    fn a_process_that_could_gain_privileges_or_has_no_program_is_refused() {
        // A jump beyond the end: nothing is filtered.
        let program = Program::from_bytes(&[5, 0, 0, 0, 255, 255, 0, 0]).unwrap();
        assert!(program.load().is_err());
    }
}
