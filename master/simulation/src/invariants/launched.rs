//! No task is launched twice: its container starts once, and while one runs no other one does.

use std::collections::BTreeMap;

/// Framework and task.
type Key = (String, String);

#[derive(Debug, Default)]
pub(crate) struct Launched {
    /// Every container ever started, and whether it runs.
    containers: BTreeMap<String, bool>,
    /// The one that runs.
    running: BTreeMap<Key, String>,
}

impl Launched {
    pub(crate) fn started(&mut self, framework: &str, task: &str, container: &str) -> Result<(), String> {
        let key = (framework.to_owned(), task.to_owned());
        if let Some(other) = self.running.get(&key) {
            return Err(format!("task {task} of {framework} runs as {other}, and starts as {container} too"));
        }
        if self.containers.insert(container.to_owned(), true).is_some() {
            return Err(format!("container {container}, task {task} of {framework}, starts a second time"));
        }
        self.running.insert(key, container.to_owned());
        Ok(())
    }

    pub(crate) fn ended(&mut self, framework: &str, task: &str, container: &str) {
        let key = (framework.to_owned(), task.to_owned());
        if self.running.get(&key).is_some_and(|running| running == container) {
            self.running.remove(&key);
        }
        self.containers.insert(container.to_owned(), false);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.containers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_is_seen() {
        let mut launched = Launched::default();
        launched.started("f", "t", "c1").unwrap();
        assert!(launched.started("f", "t", "c2").is_err());
        launched.ended("f", "t", "c1");
        launched.started("f", "t", "c2").unwrap();
        launched.ended("f", "t", "c2");
        assert!(launched.started("f", "t", "c1").is_err());
    }
}
