//! Files of sandboxes by the paths Mesos's tools know: the directory of an executor's run as `/state` says it, below
//! `runs/latest`, or `/frameworks/F/executors/E/runs/latest`. Nothing outside of sandboxes has a path here but the node's
//! log, `/slave/log`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use api::link::FileEntry;
use serde_json::{Value, json};

use super::picture::{Picture, Shown};
use crate::node::file_reader::open_beneath;
use crate::node::{directory, log_cap};

/// No more is read at once (Mesos's 16 pages).
pub(crate) const LONGEST_READ: u64 = 16 * 4096;
/// The node's own log.
pub(crate) const LOG: &str = "/slave/log";

/// What a path means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// In a sandbox: its directory, what follows, and as whom its executor runs, if that is still known.
    Sandbox { sandbox: PathBuf, below: String, user: Option<String> },
    /// See [`LOG`].
    Log,
}

/// Why there is nothing to show.
#[derive(Debug)]
pub(crate) enum FileError {
    /// Nothing is called so.
    Missing,
    /// Mesos's text.
    Bad(String),
}

impl Place {
    /// Finds it. Every name in the path is checked, and what is below the sandbox is left to the kernel.
    pub(crate) fn find(picture: &Picture, path: &str) -> Result<Self, FileError> {
        let path = path.trim_end_matches('/');
        if path == LOG {
            return Ok(Self::Log);
        }
        let slaves = format!("{}/slaves/", picture.work_dir);
        let (agent, rest) = match path.strip_prefix(&slaves) {
            Some(rest) => rest.split_once('/').ok_or(FileError::Missing)?,
            None => (picture.agent.as_str(), path.strip_prefix('/').ok_or(FileError::Missing)?),
        };
        let mut names = rest.splitn(7, '/');
        let mut next = || names.next().ok_or(FileError::Missing);
        let (frameworks, framework, executors) = (next()?, next()?, next()?);
        let (executor, runs, run) = (next()?, next()?, next()?);
        let below = names.next().unwrap_or_default().to_owned();
        let fits = (frameworks, executors, runs) == ("frameworks", "executors", "runs");
        let valid = [agent, framework, executor, run].iter().all(|name| api::id::validate(name).is_ok());
        if !fits || !valid {
            return Err(FileError::Missing);
        }
        let named = format!("{slaves}{agent}/frameworks/{framework}/executors/{executor}/runs/{run}");
        let base = Path::new(&slaves).canonicalize().map_err(|_| FileError::Missing)?;
        let sandbox = Path::new(&named).canonicalize().map_err(|_| FileError::Missing)?;
        if !sandbox.starts_with(&base) {
            return Err(FileError::Missing);
        }
        let owner = sandbox.to_str().and_then(|path| picture.owner(path)).or_else(|| picture.owner(&named));
        // A task of a pod: its sandbox is below the pod's.
        let pod = || {
            let parent = sandbox.parent()?.parent()?.to_str()?;
            picture.owner(parent)
        };
        let user = owner.or_else(pod).map(|shown| shown.user().to_owned());
        Ok(Self::Sandbox { sandbox, below, user })
    }

    fn open(&self, path: &str) -> Result<(File, u64), FileError> {
        let Self::Sandbox { sandbox, below, .. } = self else { return Err(FileError::Missing) };
        let below = if below.is_empty() { "." } else { below };
        let file = open_beneath(sandbox, below).map_err(|error| inaccessible(path, &error))?;
        let about = file.metadata().map_err(|error| inaccessible(path, &error))?;
        if about.is_dir() {
            return Err(FileError::Bad("Cannot read a directory.\n".to_owned()));
        }
        if !about.is_file() {
            return Err(FileError::Bad(format!("'{path}' is inaccessible.\n")));
        }
        Ok((file, about.len()))
    }

    /// What a directory holds. Of a file: nothing, as in Mesos.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<FileEntry>, FileError> {
        let path = path.trim_end_matches('/');
        let Self::Sandbox { sandbox, below, .. } = self else { return Ok(Vec::new()) };
        let (entries, _) = directory::list(sandbox, below).map_err(|error| inaccessible(path, &error))?;
        let below = below.trim_matches('/');
        let named = |mut entry: FileEntry| {
            let name = entry.name.strip_prefix(below).unwrap_or(&entry.name).trim_start_matches('/');
            entry.name = format!("{path}/{name}");
            entry
        };
        let is_file = matches!(&entries[..], [one] if !below.is_empty() && one.name == below);
        Ok(if is_file { Vec::new() } else { entries.into_iter().map(named).collect() })
    }

    /// A piece of a file: what there is from there on, the file's size, and where the piece begins.
    pub(crate) fn read(&self, path: &str, offset: u64, length: u64) -> Result<Piece, FileError> {
        let (file, size) = self.open(path)?;
        // What is gone at the beginning reads as nothing would: the reader goes on behind it.
        let begins = if offset < size { log_cap::past_hole(&file, offset) } else { offset };
        let room = usize::try_from(length.min(LONGEST_READ)).unwrap_or(0);
        let mut data = vec![0; room];
        let mut filled = 0;
        while filled < room {
            match file.read_at(&mut data[filled..], begins + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) => return Err(inaccessible(path, &error)),
            }
        }
        data.truncate(filled);
        Ok(Piece { data, begins, size })
    }

    /// To be sent as a whole.
    pub(crate) fn download(&self, path: &str) -> Result<(File, u64), FileError> {
        match self.open(path) {
            Err(FileError::Bad(text)) if text.starts_with("Cannot read") => {
                Err(FileError::Bad("Cannot download a directory.\n".to_owned()))
            }
            opened => opened,
        }
    }
}

/// See [`Place::read`].
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) data: Vec<u8>,
    pub(crate) begins: u64,
    pub(crate) size: u64,
}

/// The kernel refuses what leads out of the sandbox; Mesos says so.
fn inaccessible(path: &str, error: &io::Error) -> FileError {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        return FileError::Missing;
    }
    FileError::Bad(format!("'{path}' is inaccessible.\n"))
}

/// `/files/browse`: an array, names whole.
pub(crate) fn browse(entries: &[FileEntry], passwd: &str) -> Value {
    let one = |entry: &FileEntry| {
        json!({
            "path": entry.name,
            "nlink": entry.links,
            "size": entry.size,
            "mtime": entry.modified.floor(),
            "mode": api::file_mode::text(entry.mode),
            "uid": owner(passwd, entry.uid),
            "gid": owner(passwd, entry.gid),
        })
    };
    entries.iter().map(one).collect()
}

/// A user's name in the tasks' root, or the number.
pub(crate) fn owner(passwd: &str, id: u32) -> String {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let named = lines.find(|fields| fields.get(2).is_some_and(|number| *number == id.to_string()));
    let named = named.and_then(|fields| fields.first().map(|name| (*name).to_owned()));
    named.unwrap_or_else(|| if id == 0 { "root".to_owned() } else { id.to_string() })
}

/// `/files/debug`: every path there is, and what it leads to.
pub(crate) fn debug(picture: &Picture, sees: impl Fn(&Shown) -> bool) -> Value {
    let mut paths = serde_json::Map::new();
    for shown in picture.all().filter(|shown| sees(shown)) {
        let real = json!(shown.directory);
        let executor = &shown.info.executor_id;
        paths.insert(shown.directory.clone(), real.clone());
        if let Some((runs, _)) = shown.directory.rsplit_once('/') {
            paths.insert(format!("{runs}/latest"), real.clone());
        }
        paths.insert(format!("/frameworks/{}/executors/{executor}/runs/latest", shown.framework), real);
    }
    Value::Object(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_into_sandboxes_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let work_dir = dir.path().canonicalize().unwrap().display().to_string();
        let executor = format!("{work_dir}/slaves/a/frameworks/f/executors/e");
        let sandbox = format!("{executor}/runs/c");
        std::fs::create_dir_all(format!("{sandbox}/sub")).unwrap();
        std::fs::write(format!("{sandbox}/sub/file"), "0123456789").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("c", format!("{executor}/runs/latest")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), format!("{sandbox}/out")).unwrap();
        let picture = Picture { work_dir: work_dir.clone(), agent: "a".to_owned(), ..Picture::default() };
        let read =
            |path: &str| Place::find(&picture, path).and_then(|place| place.read(path, 2, 3)).map(|piece| piece.data);
        for path in [
            format!("{sandbox}/sub/file"),
            format!("{executor}/runs/latest/sub/file"),
            "/frameworks/f/executors/e/runs/latest/sub/file".to_owned(),
        ] {
            assert_eq!(read(&path).unwrap(), b"234", "{path}");
        }
        for path in
            ["/etc/passwd", "/frameworks/f/executors/../runs/x", "/frameworks/f/executors/e/runs/no/file", "", "/"]
        {
            assert!(matches!(read(path), Err(FileError::Missing)), "{path}");
        }
        for path in [format!("{sandbox}/out"), format!("{sandbox}/../../../../../../secret")] {
            let Err(FileError::Bad(text)) = read(&path) else { panic!("{path} leads out") };
            assert_eq!(text, format!("'{path}' is inaccessible.\n"));
        }
        let Err(FileError::Bad(text)) = read(&sandbox) else { panic!("a directory is read") };
        assert_eq!(text, "Cannot read a directory.\n");
        let names = |path: &str| -> Vec<String> {
            Place::find(&picture, path).unwrap().list(path).unwrap().into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(&sandbox), [format!("{sandbox}/out"), format!("{sandbox}/sub")]);
        assert_eq!(names(&format!("{sandbox}/sub/")), [format!("{sandbox}/sub/file")]);
        assert!(names(&format!("{sandbox}/sub/file")).is_empty());
    }

    #[test]
    fn owners_have_names_where_the_tasks_root_knows_them() {
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n";
        assert_eq!([0, 1000, 7].map(|id| owner(passwd, id)), ["root", "web", "7"].map(str::to_owned));
    }
}
