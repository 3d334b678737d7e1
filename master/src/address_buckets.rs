//! How often one address may do something: a few times at once, then at a steady rate.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses remembered at once. Full: the one that has been quiet longest is forgotten, which gives
/// it a fresh start; whoever has so many addresses is not stopped by counting them.
const CAPACITY: usize = 4096;

/// One bucket an address.
#[derive(Debug)]
pub(crate) struct AddressBuckets {
    burst: f64,
    /// From empty to one more.
    refill: Duration,
    buckets: BTreeMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl AddressBuckets {
    /// `burst` at once, then one each `refill`.
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        Self { burst: f64::from(burst), refill, buckets: BTreeMap::new() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// None is left: how long until there is one.
    pub(crate) fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.check(address, now)?;
        let address = network_of(address);
        if !self.buckets.contains_key(&address) && self.buckets.len() >= CAPACITY {
            self.make_room(now);
        }
        let left = self.left(address, now) - 1.0;
        self.buckets.insert(address, Bucket { left, at: now });
        Ok(())
    }

    /// Is there one left?
    ///
    /// # Errors
    /// How long until there is.
    pub(crate) fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let left = self.left(network_of(address), now);
        if left >= 1.0 { Ok(()) } else { Err(self.refill.mul_f64(1.0 - left)) }
    }

    fn left(&self, address: IpAddr, now: Instant) -> f64 {
        self.buckets.get(&address).map_or(self.burst, |bucket| self.refilled(bucket, now))
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since / self.refill.as_secs_f64()).min(self.burst)
    }

    fn make_room(&mut self, now: Instant) {
        let (burst, full) =
            (self.burst, self.buckets.iter().map(|(address, bucket)| (*address, self.refilled(bucket, now))));
        let full: Vec<IpAddr> = full.filter(|(_, left)| *left >= burst).map(|(address, _)| address).collect();
        for address in full {
            self.buckets.remove(&address);
        }
        if self.buckets.len() >= CAPACITY
            && let Some(quiet) = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(address, _)| *address)
        {
            self.buckets.remove(&quiet);
        }
    }
}

/// One host has 2^64 IPv6 addresses to choose from: they count as one. IPv4 seen through an IPv6 socket is IPv4.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_at_a_time_and_each_address_for_itself() {
        let (mut buckets, now) = (AddressBuckets::new(3, Duration::from_secs(10)), Instant::now());
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..3 {
            buckets.take(one, now).unwrap();
        }
        let wait = buckets.take(one, now).unwrap_err();
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(10), "{wait:?}");
        buckets.take(two, now).unwrap();
        buckets.take(one, now + Duration::from_secs(11)).unwrap();
        assert!(buckets.take(one, now + Duration::from_secs(11)).is_err());
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(buckets.check(mapped, now + Duration::from_secs(11)).is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_the_table_is_bounded() {
        let (mut buckets, now) = (AddressBuckets::new(1, Duration::from_secs(10)), Instant::now());
        buckets.take("2001:db8::1".parse().unwrap(), now).unwrap();
        assert!(buckets.take("2001:db8::2".parse().unwrap(), now).is_err());
        for number in 0..u32::try_from(CAPACITY).unwrap() + 100 {
            buckets.take(IpAddr::from(std::net::Ipv4Addr::from(number)), now).unwrap();
        }
        assert_eq!(buckets.buckets.len(), CAPACITY);
    }
}
