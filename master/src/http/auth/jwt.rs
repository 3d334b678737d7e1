//! Bearer tokens that somebody else signs: JSON Web Tokens, HS256 only.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::credentials::same;

/// Shorter keys can be guessed from one token.
const SHORTEST_KEY: usize = 32;
/// Larger ones are not worth decoding.
const LONGEST_TOKEN: usize = 8 << 10;
const BLOCK: usize = 64;

/// The key shared with whoever signs.
#[derive(Clone)]
pub struct JwtKey(Vec<u8>);

/// What a good token says.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Claimed {
    /// `sub` names a principal.
    Principal(String),
    /// There are claims, but none that names anybody.
    Nobody,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
}

impl JwtKey {
    /// Takes the content of a key file; line ends around it do not count.
    ///
    /// # Errors
    /// It is too short.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        let key = bytes.trim_ascii();
        if key.len() < SHORTEST_KEY {
            return Err(format!("the key has {} bytes: at least {SHORTEST_KEY} are needed", key.len()));
        }
        Ok(Self(key.to_vec()))
    }

    /// Who the token is of, if it is signed with our key and valid now.
    pub(super) fn verify(&self, token: &str, now_secs: u64) -> Option<Claimed> {
        if token.len() > LONGEST_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature: [u8; 32] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
        if !same(&hmac_sha256(&self.0, signed.as_bytes()), &signature) {
            return None;
        }
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        #[allow(clippy::cast_precision_loss)] // seconds since 1970
        let now = now_secs as f64;
        let valid =
            header.alg == "HS256" && claims.exp.is_none_or(|at| now < at) && claims.nbf.is_none_or(|at| now >= at);
        let subject = claims.sub.filter(|name| !name.is_empty() && !name.contains(':'));
        valid.then(|| subject.map_or(Claimed::Nobody, Claimed::Principal))
    }
}

/// RFC 2104 over SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef\n";

    fn sign(header: &str, claims: &str, key: &[u8]) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(key.trim_ascii(), signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    #[test]
    fn the_code_is_the_rfcs() {
        // RFC 4231, cases 2 and 6.
        let code = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex::encode(&code), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let code = hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex::encode(&code), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_token_is_believed_if_signed_and_valid_now() {
        let key = JwtKey::new(KEY).unwrap();
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        let good = sign(header, r#"{"sub":"ops","exp":2000,"nbf":1000,"cluster":"a"}"#, KEY);
        assert_eq!(key.verify(&good, 1500), Some(Claimed::Principal("ops".to_owned())));
        assert_eq!((key.verify(&good, 2000), key.verify(&good, 999)), (None, None));
        assert_eq!(key.verify(&sign(header, r#"{"cid":"c"}"#, KEY), 1), Some(Claimed::Nobody));
        assert_eq!(key.verify(&sign(header, r#"{"sub":"ops"}"#, b"another key, as long as the first"), 1), None);
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"RS256"}"#, "{}", "no"] {
            assert_eq!(key.verify(&sign(header, r#"{"sub":"ops"}"#, KEY), 1), None, "{header}");
        }
        for bad in ["", ".", "..", "a.b.c", good.trim_end_matches(|_| true), &good[..good.len() - 2]] {
            assert_eq!(key.verify(bad, 1500), None, "{bad}");
        }
        assert!(JwtKey::new(b"short").is_err());
    }
}
