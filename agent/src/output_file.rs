//! Files a container's output goes to. What was unpacked into its sandbox before may have put anything in their place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file to append to, so that two processes with it do not overwrite each other. It is a regular file of that
/// directory, whatever was there: a link would be followed with our rights.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let options = || {
        let mut options = File::options();
        // A pipe nobody reads must not keep us.
        options.append(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        options
    };
    if let Ok(file) = options().create(true).open(path)
        && file.metadata()?.is_file()
    {
        return Ok(file);
    }
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path)?,
        Ok(_) => fs::remove_file(path)?,
        // It could not be made, and will not be: the caller hears why.
        Err(_) => {}
    }
    options().create_new(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_a_file_of_its_own_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (other, output) = (dir.path().join("other"), dir.path().join("stdout"));
        fs::write(&other, "secret").unwrap();
        symlink(&other, &output).unwrap();
        open(&output).unwrap().write_all(b"said").unwrap();
        assert_eq!((fs::read(&other).unwrap(), fs::read(&output).unwrap()), (b"secret".to_vec(), b"said".to_vec()));
        open(&output).unwrap().write_all(b" more").unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"said more");
        for make in [|path: &Path| fs::create_dir(path), |path: &Path| symlink("nowhere", path)] {
            fs::remove_file(&output).unwrap();
            make(&output).unwrap();
            open(&output).unwrap();
            assert!(fs::symlink_metadata(&output).unwrap().is_file());
        }
        nix::unistd::mkfifo(&other.with_extension("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        open(&other.with_extension("fifo")).unwrap();
    }
}
