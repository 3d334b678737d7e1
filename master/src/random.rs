//! Random bytes from the TLS library's generator: the one source of secrets here; and chance that keeps no secret.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// For waits that had better differ from master to master.
#[derive(Clone, Debug, Default)]
pub enum Chance {
    /// As the system gives it.
    #[default]
    System,
    /// The same again for the same seed.
    Seeded(Arc<Mutex<u64>>),
}

impl Chance {
    /// The same again for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(Mutex::new(seed)))
    }

    /// A random part.
    pub(crate) fn part_of(&self, whole: Duration) -> Duration {
        let chance = match self {
            // Chance that is missing only makes it more likely that two wait for the same time.
            Self::System => bytes::<1>().map_or(128, |bytes| bytes[0]),
            Self::Seeded(state) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            }
        };
        whole * u32::from(chance) / 256
    }
}
