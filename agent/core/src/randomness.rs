//! Numbers that look random, from a seed: the core has no entropy of its own, so a test replays.

/// SplitMix64 (Steele, Lea, Flood 2014): enough for jitter, transaction ids and version-4 UUIDs. Not
/// for keys.
#[derive(Clone, Debug)]
pub struct Randomness {
    state: u64,
    second: u64,
}

impl Randomness {
    /// From sixteen bytes the shell took from the kernel.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        let wide = u128::from_le_bytes(seed);
        #[allow(clippy::cast_possible_truncation)] // the two halves
        Self { state: wide as u64, second: (wide >> 64) as u64 }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        mix(&mut self.state) ^ mix(&mut self.second).rotate_left(32)
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        #[allow(clippy::cast_possible_truncation)] // the upper half of 64 bits
        return (self.next_u64() >> 32) as u32;
    }

    /// Evenly from 0 up to and including `most`.
    pub fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(span) => self.next_u64() % span,
            None => self.next_u64(),
        }
    }

    /// A version-4 UUID's bytes.
    pub fn uuid(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes
    }
}

fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_uuids_differ() {
        let (mut a, mut b) = (Randomness::new([7; 16]), Randomness::new([7; 16]));
        let first = a.uuid();
        assert_eq!(first, b.uuid());
        assert_ne!(first, a.uuid());
        assert_eq!((first[6] >> 4, first[8] >> 6), (4, 2));
        assert!((0..100).all(|_| a.up_to(3) <= 3));
    }
}
