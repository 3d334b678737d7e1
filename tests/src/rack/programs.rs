//! Where the programs of the rack are: beside our own binary, whichever profile built it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The files a rack runs. A test may point one elsewhere before starting.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Programs {
    /// `mesolith-lab`, which serves the rack.
    pub lab: PathBuf,
    /// `mesolith-master`.
    pub master: PathBuf,
    /// `mesolith-agent`, for hosted nodes.
    pub agent: PathBuf,
    /// `mesolith`, the operator's command line.
    pub cli: PathBuf,
    /// `mesolith-image`.
    pub image: PathBuf,
}

impl Programs {
    /// The programs in the directory of the running binary, or its parent when that is a test in `deps/`.
    pub fn find() -> Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this binary is")?;
        let mut dir = own.parent().context("a binary lies in a directory")?.to_owned();
        if dir.ends_with("deps") {
            dir.pop();
        }
        Ok(Self {
            lab: dir.join("mesolith-lab"),
            master: dir.join("mesolith-master"),
            agent: dir.join("mesolith-agent"),
            cli: dir.join("mesolith"),
            image: dir.join("mesolith-image"),
        })
    }
}

/// `file` if it exists; else an error that says how to make it.
pub(crate) fn required(file: &Path) -> Result<&Path> {
    ensure!(file.exists(), "{} does not exist; `./dev build` makes it", file.display());
    Ok(file)
}

/// The root of the source tree this crate was compiled in.
#[must_use]
pub fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("the tests crate lies in the repository").to_owned()
}
