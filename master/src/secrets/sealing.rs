//! AES-256-GCM under the cluster's key, with the name as what is vouched for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::ca::Ca;

/// What the key is derived for; another one would be another key.
const PURPOSE: &[u8] = b"secrets of tasks, 1";

/// Why something cannot be sealed or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The library says no more.
    #[error("there is no key for secrets")]
    Key,
    /// No chance.
    #[error("the machine gives no random numbers")]
    Random,
    /// Another authority's key, or somebody has changed it.
    #[error("it was sealed with another key, or is not what was sealed")]
    Open,
}

/// A value nobody can read who has not the key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// Base64. Never the same twice.
    nonce: String,
    /// Base64, with the tag at its end.
    text: String,
}

/// The key.
pub(crate) struct Sealer(LessSafeKey);

impl Sealer {
    pub(crate) fn new(ca: &Ca) -> Result<Self, SealError> {
        let key = ca.derive(PURPOSE, &AES_256_GCM).ok_or(SealError::Key)?;
        UnboundKey::new(&AES_256_GCM, &key).map(|key| Self(LessSafeKey::new(key))).map_err(|_| SealError::Key)
    }

    pub(crate) fn seal(&self, name: &str, value: &[u8]) -> Result<Sealed, SealError> {
        // By chance: the table holds far fewer than the two to the 32 that are safe under one key.
        let nonce: [u8; NONCE_LEN] = crate::random::bytes().map_err(|_| SealError::Random)?;
        let mut text = value.to_vec();
        let aad = Aad::from(name.as_bytes());
        let sealed = self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text);
        sealed.map_err(|_| SealError::Key)?;
        Ok(Sealed { nonce: STANDARD.encode(nonce), text: STANDARD.encode(text) })
    }

    pub(crate) fn open(&self, name: &str, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| SealError::Open);
        let (nonce, mut text) = (decode(&sealed.nonce)?, decode(&sealed.text)?);
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| SealError::Open)?;
        let opened = self.0.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text);
        opened.map(|value| value.to_vec()).map_err(|_| SealError::Open)
    }
}
