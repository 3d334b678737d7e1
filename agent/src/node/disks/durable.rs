//! What a node knows again after its next boot: who it is and where the masters are. Each file is replaced as a whole, or not.

use std::fs;
use std::io;
use std::path::Path;

use crate::node::private_file;

/// Below the directory of state. Checkpoints of tasks are not among them: no task outlives the kernel.
const FILES: [&str; 2] = ["agent.json", "pki/authorities.json"];
/// Only where no token came with the boot: a machine that may join anew does.
const IDENTITY: &str = "pki/identity.json";

/// Brings back what is not there, after a boot.
pub(super) fn restore(from: &Path, state: &Path, token: Option<&Path>) {
    let has_token = token.is_some_and(Path::exists);
    let names = FILES.into_iter().chain((!has_token).then_some(IDENTITY));
    for name in names {
        let (source, target) = (from.join(name), state.join(name));
        if target.exists() {
            continue;
        }
        let copy = || -> io::Result<bool> {
            let Some(content) = private_file::read(&source)? else { return Ok(false) };
            // One that a power cut spoilt is none: the node joins as a new one does.
            if serde_json::from_slice::<serde_json::Value>(&content).is_err() {
                return Ok(false);
            }
            private_file::write(&target, &content)?;
            Ok(true)
        };
        match copy() {
            Ok(true) => tracing::info!(file = name, "brought back from the node's disk"),
            Ok(false) => {}
            Err(error) => tracing::warn!(file = name, %error, "cannot be brought back from the node's disk"),
        }
    }
}

/// Writes what is other than on the disk.
pub(super) fn save(state: &Path, to: &Path) -> io::Result<()> {
    private_file::make_directory(&to.join("pki"))?;
    for name in FILES.into_iter().chain([IDENTITY]) {
        let content = private_file::read(&state.join(name))?;
        let kept = private_file::read(&to.join(name))?;
        match content {
            Some(content) if kept.as_ref() != Some(&content) => private_file::write(&to.join(name), &content)?,
            None if kept.is_some() && name == IDENTITY => private_file::remove(&to.join(name))?,
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Forgets all of it.
pub(super) fn forget(at: &Path) -> io::Result<()> {
    for name in FILES.into_iter().chain([IDENTITY]) {
        if fs::exists(at.join(name))? {
            private_file::remove(&at.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_unless_the_machine_may_join_anew() {
        let (disk, first, second, third) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        for state in [&first, &second, &third] {
            fs::create_dir(state.path().join("pki")).unwrap();
        }
        fs::write(first.path().join("agent.json"), "{\"masters\":[]}").unwrap();
        fs::write(first.path().join(IDENTITY), "{}").unwrap();
        fs::create_dir(first.path().join("tasks")).unwrap();
        fs::write(first.path().join("tasks/c.json"), "{}").unwrap();
        save(first.path(), disk.path()).unwrap();
        save(first.path(), disk.path()).unwrap();
        restore(disk.path(), second.path(), None);
        assert_eq!(fs::read(second.path().join("agent.json")).unwrap(), b"{\"masters\":[]}");
        assert!(second.path().join(IDENTITY).exists() && !second.path().join("tasks").exists());
        let token = first.path().join("token");
        fs::write(&token, "t").unwrap();
        restore(disk.path(), third.path(), Some(&token));
        assert!(third.path().join("agent.json").exists() && !third.path().join(IDENTITY).exists());
        // What is there already stays.
        fs::write(third.path().join("agent.json"), "{\"masters\":[1]}").unwrap();
        restore(disk.path(), third.path(), None);
        assert_eq!(fs::read(third.path().join("agent.json")).unwrap(), b"{\"masters\":[1]}");
        forget(disk.path()).unwrap();
        assert!(!disk.path().join(IDENTITY).exists());
    }

    #[test]
    fn half_a_file_is_none() {
        let (disk, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(disk.path().join("agent.json"), "{\"mast").unwrap();
        restore(disk.path(), state.path(), None);
        assert!(!state.path().join("agent.json").exists());
    }
}
