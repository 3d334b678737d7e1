//! An image layer with this host's Python and the packages of a virtual environment.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::clients::{PythonPackages, programs};

use super::image::{Layer, Packed};

/// Where the packages are in the image.
pub(crate) const PACKAGES: &str = "/opt/packages";
/// Where the programs on them are.
pub(crate) const PROGRAMS: &str = "/opt/programs";
/// What no executor needs of the standard library.
const WITHOUT: [&str; 8] =
    ["test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "__pycache__"];
/// A tar header has this much room for a name.
const LONGEST: usize = 99;

/// The layer, and the interpreter's path in it.
pub(crate) fn layer(packages: &PythonPackages) -> (Packed, String) {
    let say = "import json, os, sys, sysconfig; paths = sysconfig.get_paths(); print(json.dumps(\
               [os.path.realpath(sys.executable), paths['stdlib'], paths['purelib']]))";
    let said = packages.python().args(["-c", say]).output().unwrap();
    let places: Value = serde_json::from_slice(&said.stdout).expect("Python says where it is");
    let place = |at: usize| PathBuf::from(places[at].as_str().unwrap());
    let (interpreter, library, site) = (place(0), place(1), place(2));

    let mut files: BTreeSet<(PathBuf, PathBuf)> = BTreeSet::new();
    files.insert((interpreter.clone(), interpreter.clone()));
    collect(&library, &library, &mut files);
    collect(&site, Path::new(PACKAGES), &mut files);
    collect(&programs(), Path::new(PROGRAMS), &mut files);
    let compiled = tempfile::tempdir().unwrap();
    files.extend(compile(packages, &files, compiled.path()));
    let programs: Vec<PathBuf> = files.iter().map(|(from, _)| from.clone()).filter(|from| is_elf(from)).collect();
    for needed in programs.iter().flat_map(|program| libraries(program)) {
        files.insert((needed.canonicalize().unwrap(), needed));
    }

    let mut layer = Layer::default();
    let mut made: BTreeSet<PathBuf> = BTreeSet::new();
    for (from, to) in files {
        let name = |path: &Path| path.to_str().unwrap().trim_start_matches('/').to_owned();
        if name(&to).len() > LONGEST {
            continue;
        }
        let mut above: Vec<&Path> = to.ancestors().skip(1).filter(|path| *path != Path::new("/")).collect();
        above.reverse();
        for parent in above {
            if made.insert(parent.to_owned()) {
                layer = layer.directory(&format!("{}/", name(parent)), 0o755);
            }
        }
        let mode = std::fs::metadata(&from).unwrap().permissions().mode() & 0o777;
        layer = layer.file(&name(&to), mode | 0o444, &std::fs::read(&from).unwrap());
    }
    (layer.gzip(), interpreter.to_str().unwrap().to_owned())
}

/// What the interpreter would make of each source at its first use: an emulated server takes a minute for it. The results
/// say that they need not be compared with their source.
fn compile(packages: &PythonPackages, files: &BTreeSet<(PathBuf, PathBuf)>, below: &Path) -> Vec<(PathBuf, PathBuf)> {
    let sources = files.iter().filter(|(from, _)| from.extension().is_some_and(|kind| kind == "py"));
    for (from, to) in sources {
        let copy = below.join(to.strip_prefix("/").unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(from, copy).unwrap();
    }
    let mut python = packages.python();
    python.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]).arg(below);
    // Some of the standard library's are no Python, on purpose.
    drop(python.output().unwrap());
    let mut compiled = Vec::new();
    let mut waiting = vec![below.to_owned()];
    while let Some(here) = waiting.pop() {
        for path in std::fs::read_dir(here).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|kind| kind == "pyc") {
                let place = Path::new("/").join(path.strip_prefix(below).unwrap());
                compiled.push((path, place));
            }
        }
    }
    assert!(!compiled.is_empty(), "nothing was compiled");
    compiled
}

/// Every file below `from`, to be below `to`.
fn collect(from: &Path, to: &Path, files: &mut BTreeSet<(PathBuf, PathBuf)>) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if WITHOUT.iter().any(|without| name == *without) {
            continue;
        }
        if path.is_dir() {
            collect(&path, &to.join(name), files);
        } else if path.is_file() && path.extension().is_none_or(|kind| kind != "a" && kind != "pyc") {
            files.insert((path, to.join(name)));
        }
    }
}

fn is_elf(path: &Path) -> bool {
    let binary = path.extension().is_none_or(|kind| kind == "so" || !kind.eq_ignore_ascii_case("py"));
    binary && std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
}

/// The shared libraries it is linked with, and the loader.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd is there (package libc-bin)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}
