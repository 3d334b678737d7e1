//! Which certificate authorities this node trusts: those it was started with, until a master it trusts names others.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::private_file;

/// SHA-256 of certificates.
pub(crate) type Digests = Vec<[u8; 32]>;

/// More are not taken: one, or two while one follows the other.
const MOST: usize = 4;

/// What is trusted, as it is kept.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Authorities {
    /// What the node was started with: told otherwise, it begins with that again.
    pinned: Digests,
    /// What it trusts.
    trusted: Digests,
    /// Who issues certificates now.
    issuer: Option<[u8; 32]>,
}

/// What follows from a master's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum News {
    /// Nothing is new.
    Nothing,
    /// Others are trusted; the certificate is as it should be.
    Trust,
    /// Another authority issues: a new certificate is to be asked for.
    Renew,
}

fn file(state: &Path) -> PathBuf {
    state.join("pki").join("authorities.json")
}

impl Authorities {
    /// Those kept, if they followed from these.
    pub(crate) fn load(state: &Path, pinned: &[[u8; 32]]) -> Self {
        let kept = private_file::read(&file(state)).ok().flatten();
        let kept: Option<Self> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let fresh = Self { pinned: pinned.to_vec(), trusted: pinned.to_vec(), issuer: None };
        kept.filter(|kept| kept.pinned == pinned && !kept.trusted.is_empty()).unwrap_or(fresh)
    }

    pub(crate) fn trusted(&self) -> &[[u8; 32]] {
        &self.trusted
    }

    /// Takes a master's words, and keeps them before they count.
    pub(crate) fn hear(&mut self, state: &Path, words: &api::link::Authorities) -> std::io::Result<News> {
        let digest = |bytes: &Vec<u8>| <[u8; 32]>::try_from(bytes.as_slice()).ok();
        let trusted: Option<Digests> = words.sha256.iter().map(digest).collect();
        let issuer = digest(&words.issuer);
        let Some(trusted) = trusted.filter(|trusted| (1..=MOST).contains(&trusted.len())) else {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "these are no authorities"));
        };
        let renew = self.issuer.is_some() && issuer != self.issuer;
        let new = Self { pinned: self.pinned.clone(), trusted, issuer };
        if new == *self {
            return Ok(News::Nothing);
        }
        let bytes = serde_json::to_vec(&new).map_err(std::io::Error::other)?;
        private_file::write(&file(state), &bytes)?;
        *self = new;
        Ok(if renew { News::Renew } else { News::Trust })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_master_says_is_kept_and_another_start_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pki")).unwrap();
        let (old, new) = ([1; 32], [2; 32]);
        let words = |sha256: &[[u8; 32]], issuer: [u8; 32]| api::link::Authorities {
            sha256: sha256.iter().map(|one| one.to_vec()).collect(),
            issuer: issuer.to_vec(),
        };
        let mut known = Authorities::load(dir.path(), &[old]);
        assert_eq!(known.hear(dir.path(), &words(&[old], old)).unwrap(), News::Trust);
        assert_eq!(known.hear(dir.path(), &words(&[old], old)).unwrap(), News::Nothing);
        assert_eq!(known.hear(dir.path(), &words(&[old, new], new)).unwrap(), News::Renew);
        assert_eq!(known.trusted(), [old, new]);
        assert_eq!(known.hear(dir.path(), &words(&[new], new)).unwrap(), News::Trust);
        assert_eq!(Authorities::load(dir.path(), &[old]).trusted(), [new]);
        assert_eq!(Authorities::load(dir.path(), &[new]).trusted(), [new]);
        assert_eq!(Authorities::load(dir.path(), &[[3; 32]]).trusted(), [[3; 32]]);
        assert!(known.hear(dir.path(), &words(&[], new)).is_err());
        assert!(known.hear(dir.path(), &api::link::Authorities { sha256: vec![vec![1]], issuer: vec![] }).is_err());
        assert_eq!(known.trusted(), [new], "nonsense changes nothing");
    }
}
