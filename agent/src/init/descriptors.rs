//! File descriptors that outlive the process that opened them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use agent_core::handover::MAX_DESCRIPTORS;

/// The longest name.
const MAX_NAME: usize = 255;

/// Descriptors by name.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(BTreeMap<String, OwnedFd>);

/// Why a descriptor is not stored or fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescriptorError {
    #[error("a descriptor's name has 1 to {MAX_NAME} bytes")]
    Name,
    #[error("exactly one descriptor must ride along, there are {0}")]
    Count(usize),
    #[error("{MAX_DESCRIPTORS} descriptors are stored, no more fit")]
    Full,
    #[error("no descriptor named `{0}` is stored")]
    Unknown(String),
    #[error("cannot duplicate the descriptor")]
    Duplicate(#[source] io::Error),
}

impl Descriptors {
    /// Keeps one, replacing its namesake.
    pub(crate) fn store(&mut self, name: String, mut arrived: Vec<OwnedFd>) -> Result<(), DescriptorError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(DescriptorError::Name);
        }
        let count = arrived.len();
        let (Some(descriptor), 1) = (arrived.pop(), count) else {
            return Err(DescriptorError::Count(count));
        };
        if self.0.len() >= MAX_DESCRIPTORS && !self.0.contains_key(&name) {
            return Err(DescriptorError::Full);
        }
        self.0.insert(name, descriptor);
        Ok(())
    }

    /// A duplicate of the one of that name.
    pub(crate) fn fetch(&self, name: &str) -> Result<OwnedFd, DescriptorError> {
        let stored = self.0.get(name).ok_or_else(|| DescriptorError::Unknown(name.to_owned()))?;
        stored.try_clone().map_err(DescriptorError::Duplicate)
    }

    /// Closes the one of that name.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), DescriptorError> {
        self.0.remove(name).map(drop).ok_or_else(|| DescriptorError::Unknown(name.to_owned()))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn descriptor() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn what_is_stored_is_fetched_until_it_is_removed() {
        let mut store = Descriptors::default();
        store.store("a".to_owned(), vec![descriptor()]).unwrap();
        store.fetch("a").unwrap();
        store.fetch("a").unwrap();
        assert_eq!(store.names(), ["a"]);
        store.remove("a").unwrap();
        assert!(matches!(store.fetch("a"), Err(DescriptorError::Unknown(_))));
        assert!(store.remove("a").is_err());
    }

    #[test]
    fn mistakes_are_refused() {
        let mut store = Descriptors::default();
        assert!(matches!(store.store(String::new(), vec![descriptor()]), Err(DescriptorError::Name)));
        assert!(matches!(store.store("x".repeat(256), vec![descriptor()]), Err(DescriptorError::Name)));
        assert!(matches!(store.store("x".to_owned(), vec![]), Err(DescriptorError::Count(0))));
        let two = vec![descriptor(), descriptor()];
        assert!(matches!(store.store("x".to_owned(), two), Err(DescriptorError::Count(2))));
    }

    #[test]
    fn a_full_store_still_replaces() {
        let mut store = Descriptors::default();
        for number in 0..MAX_DESCRIPTORS {
            store.store(number.to_string(), vec![descriptor()]).unwrap();
        }
        assert!(matches!(store.store("new".to_owned(), vec![descriptor()]), Err(DescriptorError::Full)));
        store.store("0".to_owned(), vec![descriptor()]).unwrap();
    }
}
