//! The folder of recordings: reading all of it, writing one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::dialogue::Dialogue;

/// Where the recordings of this repository are.
#[must_use]
pub fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings")
}

/// Every dialogue below `dir`, by name.
pub fn read(dir: &Path) -> Result<Vec<Dialogue>> {
    let mut dialogues = Vec::new();
    for topic in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let topic = topic?;
        if !topic.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(topic.path())? {
            let path = file?.path();
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let dialogue: Dialogue =
                serde_json::from_str(&text).with_context(|| format!("{} is no recording", path.display()))?;
            ensure!(path == file_of(dir, &dialogue.name), "{} holds the dialogue {}", path.display(), dialogue.name);
            dialogues.push(dialogue);
        }
    }
    dialogues.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(dialogues)
}

/// Writes one dialogue to its place.
pub fn write(dir: &Path, dialogue: &Dialogue) -> Result<()> {
    let path = file_of(dir, &dialogue.name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let text = serde_json::to_string_pretty(dialogue)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn file_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}
