//! How many things one address holds at once: connections, handshakes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::address_buckets::network_of;

/// Counts what each address holds; as large as there are things held.
#[derive(Clone, Debug)]
pub(crate) struct AddressShares {
    most: usize,
    held: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One thing held; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    address: IpAddr,
    held: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl AddressShares {
    /// At most so many an address.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more for an address, unless it holds its share.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Share> {
        let address = network_of(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { address, held: self.held.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_its_share_and_nothing_is_kept_of_who_left() {
        let shares = AddressShares::new(2);
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let held = [shares.take(one).unwrap(), shares.take(one).unwrap()];
        assert!(shares.take(one).is_none() && shares.take(two).is_some());
        drop(held);
        assert!(shares.held.lock().unwrap().is_empty() && shares.take(one).is_some());
    }
}
