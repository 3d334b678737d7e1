//! The one packet that spares iPXE a quarter of a minute: an answer to its question for an IPv6 router.
//!
//! The answer says that we are no router (lifetime 0) and give no addresses: nothing on the network changes by it.

/// Is it a router solicitation?
#[must_use]
pub fn is_solicitation(packet: &[u8]) -> bool {
    packet.len() >= 8 && packet[..2] == [133, 0]
}

/// A router advertisement of somebody who routes nothing. The kernel adds the checksum.
#[must_use]
pub fn advertisement() -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = 134;
    packet[4] = 64; // hops, as everybody says
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solicitation_is_known_and_the_answer_makes_nobody_a_router() {
        assert!(is_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!is_solicitation(&[134, 0, 0, 0, 0, 0, 0, 0]) && !is_solicitation(&[133]));
        let said = advertisement();
        assert_eq!((said[0], said[5], &said[6..8]), (134, 0, &[0, 0][..]), "no flags, no lifetime");
    }
}
