//! Bearer tokens the master issues: each for one principal, revocable, of limited life, kept as digests.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::credentials::{digest, same};
use crate::{atomic_file, hex, random};

/// So that a token that turns up somewhere can be told for what it is.
const PREFIX: &str = "mesolith_";
/// Tokens at once. Full: no more are issued until some expire or are revoked.
const CAPACITY: usize = 10_000;
/// What one gets who does not say.
pub(super) const DEFAULT_LIFE_SECS: u64 = 30 * 24 * 3600;
/// The most one can ask for.
pub(super) const LONGEST_LIFE_SECS: u64 = 10 * 365 * 24 * 3600;

/// What is kept of a token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ApiToken {
    pub(super) principal: String,
    pub(super) created_ms: u64,
    pub(super) expires_ms: u64,
    #[serde(default)]
    pub(super) note: String,
    /// SHA-256 of the secret, in hexadecimal.
    sha256: String,
}

type Table = BTreeMap<String, ApiToken>;

/// All of them. Readers never wait for the disk.
#[derive(Debug)]
pub struct ApiTokens {
    path: PathBuf,
    table: RwLock<Arc<Table>>,
    /// Held over writing the file.
    writing: Mutex<()>,
}

/// Why no token was issued or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too many.
    #[error("there are {CAPACITY} tokens already: revoke some first")]
    Full,
    /// The file.
    #[error("the master cannot write its table of API tokens")]
    Io(#[from] io::Error),
}

impl ApiTokens {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or not be understood: tokens that were revoked must not come back by being forgotten.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let table = match atomic_file::read(&path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("not a table of tokens: {error}"))
            })?,
            None => Table::new(),
        };
        Ok(Self { path, table: RwLock::new(Arc::new(table)), writing: Mutex::new(()) })
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose token it is, if it is one and has not expired.
    pub(super) fn principal(&self, token: &str, now_ms: u64) -> Option<String> {
        let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
        let table = self.table();
        let known = table.get(id);
        let expected = known.and_then(|known| hex::decode(&known.sha256)).unwrap_or([0; 32]);
        let right = same(&expected, &digest(secret));
        known.filter(|known| right && now_ms < known.expires_ms).map(|known| known.principal.clone())
    }

    /// Makes one: its id, and the token, which is shown this once. Blocks on the disk.
    pub(super) fn issue(
        &self,
        principal: &str,
        note: &str,
        life_secs: u64,
        now_ms: u64,
    ) -> Result<(String, String), TokenError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table());
        table.retain(|_, token| now_ms < token.expires_ms);
        if table.len() >= CAPACITY {
            return Err(TokenError::Full);
        }
        let (id, secret) = (hex::encode(&random::bytes::<8>()?), hex::encode(&random::bytes::<32>()?));
        let entry = ApiToken {
            principal: principal.to_owned(),
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(life_secs.min(LONGEST_LIFE_SECS) * 1000),
            note: note.to_owned(),
            sha256: hex::encode(&digest(&secret)),
        };
        table.insert(id.clone(), entry);
        self.replace(table)?;
        let token = format!("{PREFIX}{id}_{secret}");
        Ok((id, token))
    }

    /// Ends one; false if it is not known. Blocks on the disk.
    pub(super) fn revoke(&self, id: &str) -> Result<bool, TokenError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table());
        if table.remove(id).is_none() {
            return Ok(false);
        }
        self.replace(table)?;
        Ok(true)
    }

    fn replace(&self, table: Table) -> io::Result<()> {
        let bytes = serde_json::to_vec(&table).map_err(io::Error::other)?;
        atomic_file::write(&self.path, &bytes, 0o600)?;
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(())
    }

    /// One token's facts.
    pub(super) fn get(&self, id: &str) -> Option<ApiToken> {
        self.table().get(id).cloned()
    }

    /// Every token's facts, by id.
    pub(super) fn list(&self) -> Arc<BTreeMap<String, ApiToken>> {
        self.table()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked_and_is_not_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-tokens.json");
        let tokens = ApiTokens::open(path.clone()).unwrap();
        let (id, token) = tokens.issue("ci", "build", 60, 1000).unwrap();
        let (other, second) = tokens.issue("ci", "", 60, 1000).unwrap();
        assert_eq!(tokens.principal(&token, 1000).as_deref(), Some("ci"));
        assert_eq!(tokens.principal(&token, 61_000), None);
        let secret = token.rsplit_once('_').unwrap().1;
        assert!(!std::fs::read_to_string(&path).unwrap().contains(secret));
        for bad in ["", "mesolith_", secret, &token[..token.len() - 1], &format!("mesolith_{other}_{secret}")] {
            assert_eq!(tokens.principal(bad, 1000), None, "{bad}");
        }
        let again = ApiTokens::open(path.clone()).unwrap();
        assert_eq!(again.principal(&token, 1000).as_deref(), Some("ci"));
        assert!(again.revoke(&id).unwrap() && !again.revoke(&id).unwrap());
        assert_eq!(again.principal(&token, 1000), None);
        let again = ApiTokens::open(path.clone()).unwrap();
        assert_eq!((again.principal(&token, 1000), again.principal(&second, 1000).as_deref()), (None, Some("ci")));
        std::fs::write(&path, "{").unwrap();
        assert!(ApiTokens::open(path).is_err());
    }
}
