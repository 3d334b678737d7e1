//! The files of the repository that people wrote.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One Rust file.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Relative to the root, with `/` between the parts.
    pub path: String,
    /// As it stands.
    pub text: String,
}

/// The repository.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Its root.
    pub root: PathBuf,
    /// Every `.rs` file, sorted by path.
    pub sources: Vec<SourceFile>,
    /// Every `Cargo.toml`, relative to the root, sorted.
    pub manifests: Vec<String>,
    /// `README.md` and what is under `docs/` in Markdown, relative to the root, sorted.
    pub documents: Vec<String>,
}

impl Tree {
    /// Reads the tree under `root`; hidden directories and build output are no part of it.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree =
            Self { root: root.to_owned(), sources: Vec::new(), manifests: Vec::new(), documents: Vec::new() };
        tree.walk(root)?;
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        tree.manifests.sort();
        tree.documents.sort();
        Ok(tree)
    }

    /// The text of a file named relative to the root.
    pub fn text(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    fn walk(&mut self, dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "corpus" {
                    self.walk(&path)?;
                }
                continue;
            }
            let relative = path.strip_prefix(&self.root)?.to_string_lossy().into_owned();
            if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {relative}"))?;
                self.sources.push(SourceFile { path: relative, text });
            } else if name == "Cargo.toml" {
                self.manifests.push(relative);
            } else if name.ends_with(".md") && (relative == "README.md" || relative.starts_with("docs/")) {
                self.documents.push(relative);
            }
        }
        Ok(())
    }
}
