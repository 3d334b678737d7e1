//! Kernel modules from the image: found by the index, loaded with what they need.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use initramfs::index::{IndexError, ModuleIndex, Step};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// The index's name beside the modules' directory `kernel`.
const INDEX_FILE: &str = "mesolith.index";

/// Why modules cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModulesError {
    #[error("cannot tell which kernel this is")]
    Kernel(#[source] Errno),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is unusable", path.display())]
    Index { path: PathBuf, source: IndexError },
}

/// The modules of the running kernel.
pub(crate) struct Modules {
    dir: PathBuf,
    index: ModuleIndex,
}

/// What came of a query.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Modules that were not there before.
    pub(crate) new: Vec<String>,
    /// Modules that did not load, and why.
    pub(crate) failed: Vec<(String, Errno)>,
    /// The query matched something, loaded now or before.
    pub(crate) matched: bool,
}

impl Modules {
    /// Reads the index of the running kernel.
    pub(crate) fn open() -> Result<Modules, ModulesError> {
        let release = nix::sys::utsname::uname().map_err(ModulesError::Kernel)?.release().to_owned();
        let mut tried = None;
        for top in ["/usr/lib/modules", "/lib/modules"] {
            let dir = Path::new(top).join(&release);
            let path = dir.join(INDEX_FILE);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let index = ModuleIndex::parse(bytes).map_err(|source| ModulesError::Index { path, source })?;
                    return Ok(Modules { dir, index });
                }
                Err(source) => tried = tried.or(Some(ModulesError::Read { path, source })),
            }
        }
        Err(tried.expect("at least one directory is tried"))
    }

    /// Loads what a modalias or a name asks for. Modules in `known` are not tried again; new ones are added to it.
    pub(crate) fn load(&self, query: &str, known: &mut BTreeSet<String>) -> Loaded {
        let steps = self.index.resolve(query);
        let mut loaded = Loaded { matched: !steps.is_empty() || self.index.is_builtin(query), ..Loaded::default() };
        for step in &steps {
            if known.contains(step.module.name) {
                continue;
            }
            known.insert(step.module.name.to_owned());
            self.insert(step, &mut loaded);
        }
        loaded
    }

    fn insert(&self, step: &Step<'_>, loaded: &mut Loaded) {
        let name = step.module.name.to_owned();
        let result = File::open(self.dir.join(step.module.path))
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .and_then(|file| finit_module(&file, c"", ModuleInitFlags::empty()));
        match result {
            Ok(()) => loaded.new.push(name),
            Err(Errno::EEXIST) => {}
            // The driver looked and its hardware is not there, as for those that match any processor of a kind.
            Err(Errno::ENODEV) => {}
            Err(_) if !step.required => {}
            Err(errno) => loaded.failed.push((name, errno)),
        }
    }
}
