//! Bearer tokens the master issues: each for one principal, revocable, of limited life, kept as digests.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use master_core::state;
use serde::{Deserialize, Serialize};

use super::credentials::{digest, same};
use crate::kept::{KeepError, Keeper, Table};
use crate::{hex, random};

/// So that a token that turns up somewhere can be told for what it is.
const PREFIX: &str = "mesolith_";
/// Tokens at once. Full: no more are issued until some expire or are revoked.
const CAPACITY: usize = 10_000;
/// What one gets who does not say.
pub(super) const DEFAULT_LIFE_SECS: u64 = 30 * 24 * 3600;
/// The most one can ask for.
pub(super) const LONGEST_LIFE_SECS: u64 = 10 * 365 * 24 * 3600;

/// What is kept of a token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ApiToken {
    pub(super) principal: String,
    pub(super) created_ms: u64,
    pub(super) expires_ms: u64,
    #[serde(default)]
    pub(super) note: String,
    /// SHA-256 of the secret, in hexadecimal.
    sha256: String,
}

/// All of them, the same on every master. Readers never wait.
pub struct ApiTokens(Table<ApiToken>);

/// Why no token was issued or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too many.
    #[error("there are {CAPACITY} tokens already: revoke some first")]
    Full,
    /// No chance.
    #[error("the machine gives no random numbers")]
    Random(#[from] io::Error),
    /// The table.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl ApiTokens {
    /// The table that `keeper` keeps.
    #[must_use]
    pub fn new(keeper: Keeper) -> Self {
        Self(Table::new(state::Table::ApiTokens, keeper))
    }

    /// Whose token it is, if it is one and has not expired.
    pub(super) fn principal(&self, token: &str, now_ms: u64) -> Option<String> {
        let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
        let table = self.0.all();
        let known = table.get(id);
        let expected = known.and_then(|known| hex::decode(&known.sha256)).unwrap_or([0; 32]);
        let right = same(&expected, &digest(secret));
        known.filter(|known| right && now_ms < known.expires_ms).map(|known| known.principal.clone())
    }

    /// Makes one: its id, and the token, which is shown this once. Blocks until it is committed.
    pub(super) fn issue(
        &self,
        principal: &str,
        note: &str,
        life_secs: u64,
        now_ms: u64,
    ) -> Result<(String, String), TokenError> {
        let (id, secret) = (hex::encode(&random::bytes::<8>()?), hex::encode(&random::bytes::<32>()?));
        let entry = ApiToken {
            principal: principal.to_owned(),
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(life_secs.min(LONGEST_LIFE_SECS) * 1000),
            note: note.to_owned(),
            sha256: hex::encode(&digest(&secret)),
        };
        self.0.change(|table| {
            table.retain(|_, token| now_ms < token.expires_ms);
            if table.len() >= CAPACITY {
                return Err(TokenError::Full);
            }
            table.insert(id.clone(), entry.clone());
            Ok(())
        })?;
        let token = format!("{PREFIX}{id}_{secret}");
        Ok((id, token))
    }

    /// Ends one; false if it is not known. Blocks until that is committed.
    pub(super) fn revoke(&self, id: &str) -> Result<bool, TokenError> {
        self.0.change(|table| Ok(table.remove(id).is_some()))
    }

    /// One token's facts.
    pub(super) fn get(&self, id: &str) -> Option<ApiToken> {
        self.0.all().get(id).cloned()
    }

    /// Every token's facts, by id.
    pub(super) fn list(&self) -> Arc<BTreeMap<String, ApiToken>> {
        self.0.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked_and_is_kept_nowhere() {
        let keeper = Keeper::in_memory();
        let tokens = ApiTokens::new(keeper.clone());
        let (id, token) = tokens.issue("ci", "build", 60, 1000).unwrap();
        let (other, second) = tokens.issue("ci", "", 60, 1000).unwrap();
        assert_eq!(tokens.principal(&token, 1000).as_deref(), Some("ci"));
        assert_eq!(tokens.principal(&token, 61_000), None);
        let secret = token.rsplit_once('_').unwrap().1;
        assert!(!format!("{:?}", tokens.list()).contains(secret));
        for bad in ["", "mesolith_", secret, &token[..token.len() - 1], &format!("mesolith_{other}_{secret}")] {
            assert_eq!(tokens.principal(bad, 1000), None, "{bad}");
        }
        let again = ApiTokens::new(keeper);
        assert_eq!(again.principal(&token, 1000).as_deref(), Some("ci"));
        assert!(again.revoke(&id).unwrap() && !again.revoke(&id).unwrap());
        assert_eq!(tokens.principal(&token, 1000), None);
        assert_eq!(tokens.principal(&second, 1000).as_deref(), Some("ci"));
    }
}
