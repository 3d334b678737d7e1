//! Random bytes from the TLS library's generator: the one source of secrets here.

use std::io;

/// Fresh secret bytes.
///
/// # Errors
/// The kernel has no randomness to give.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes)
}
