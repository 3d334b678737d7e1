//! Where the files of a task in an executor are found: as those of a task alone, by its own name.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A link to what is not there is younger than this while its sandbox is being made.
const YOUNG: Duration = Duration::from_secs(60);

/// Lets `executors/TASK/runs/RUN` and `runs/latest` there lead to a sandbox somewhere else.
pub(crate) fn link(from: &str, sandbox: &str) -> io::Result<()> {
    let (from, sandbox) = (Path::new(from), Path::new(sandbox));
    let (Some(runs), Some(run)) = (from.parent(), from.file_name()) else { return Ok(()) };
    // A task may be called as its executor: that has the name already.
    if sandbox.starts_with(runs) {
        return Ok(());
    }
    fs::create_dir_all(runs)?;
    for (name, target) in [(from.to_owned(), sandbox), (runs.join("latest"), Path::new(run))] {
        let temporary = runs.join(".link");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        symlink(target, &temporary)?;
        fs::rename(&temporary, name)?;
    }
    Ok(())
}

/// Removes links to sandboxes that are no more, and the directories that held nothing else. `executors` is the
/// directory of one framework. What is in use may be waited for: an image may be on its way.
pub(crate) fn remove_dangling(executors: &Path, in_use: &BTreeSet<String>) {
    for entry in fs::read_dir(executors).into_iter().flatten().flatten() {
        let runs = entry.path().join("runs");
        for link in fs::read_dir(&runs).into_iter().flatten().flatten() {
            let path = link.path();
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            let run = fs::read_link(&path)
                .ok()
                .filter(|to| to.parent() == Some(Path::new("")))
                .unwrap_or_else(|| path.clone());
            let run = run.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if in_use.contains(run) {
                continue;
            }
            let age = about.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if about.is_symlink() && fs::metadata(&path).is_err() && age.is_some_and(|age| age > YOUNG) {
                // What stays is tried again.
                let _ = fs::remove_file(&path);
            }
        }
        // Only what is empty goes.
        let _ = fs::remove_dir(&runs).and_then(|()| fs::remove_dir(entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tasks_name_leads_to_its_pods_sandbox_until_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = |rest: &str| dir.path().join(rest).display().to_string();
        let sandbox = path("pod/runs/x/containers/r1");
        fs::create_dir_all(&sandbox).unwrap();
        fs::write(format!("{sandbox}/stdout"), "here").unwrap();
        for _ in 0..2 {
            link(&path("task/runs/r1"), &sandbox).unwrap();
        }
        for run in ["r1", "latest"] {
            assert_eq!(fs::read_to_string(path(&format!("task/runs/{run}/stdout"))).unwrap(), "here");
        }
        link(&path("pod/runs/r2"), &sandbox).unwrap();
        assert!(!dir.path().join("pod/runs/latest").exists(), "its own name is not taken from the pod");
        remove_dangling(dir.path(), &BTreeSet::new());
        assert!(dir.path().join("task/runs/r1").exists());
        fs::remove_dir_all(path("pod")).unwrap();
        remove_dangling(dir.path(), &BTreeSet::new());
        assert!(dir.path().join("task/runs/r1").is_symlink(), "it may be about to be made");
    }
}
