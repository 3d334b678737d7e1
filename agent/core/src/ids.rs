//! User namespaces: who is root in a container is nobody outside. Each run has a range of the node's user and group ids to
//! itself, as long as anything of it is left.

use std::collections::BTreeSet;

use api::v1::{ContainerInfo, TaskInfo, linux_info};

use crate::launch::User;

/// A task asks for a user namespace of its own with the value `own`.
const LABEL: &str = "mesolith.user_namespace";
/// The upper end of what Linux distributions leave to containers. A multiple of [`SIZE`], so that an id's lower half is
/// what it is called in its container.
const FIRST: u32 = 0x6000_0000;
/// How many ranges there are.
const RANGES: u32 = 4096;
/// As many ids as images have use for: the rest are nobody's there.
pub const SIZE: u32 = 0x1_0000;

/// Whose tasks have user namespaces without asking.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UserNamespaces {
    /// Everybody's.
    pub all: bool,
    /// Those of these roles.
    pub roles: BTreeSet<String>,
}

impl UserNamespaces {
    /// `all`, or roles with commas.
    ///
    /// # Errors
    /// What is no role.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self { all: true, roles: BTreeSet::new() });
        }
        let roles: BTreeSet<String> = text.split(',').map(str::to_owned).collect();
        match roles.iter().find(|role| role.is_empty() || role.contains([' ', '\t', '=']) || role.starts_with('-')) {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(Self { all: false, roles }),
        }
    }

    /// Has this task one?
    ///
    /// # Errors
    /// When it asks for what there is not, or for two things that exclude each other.
    pub fn wanted(&self, task: &TaskInfo) -> Result<bool, String> {
        let labels = task.labels.iter().flat_map(|labels| &labels.labels);
        let asked = match labels.filter(|label| label.key == LABEL).map(|label| label.value.as_deref()).next_back() {
            None => false,
            Some(Some("own")) => true,
            Some(other) => return Err(format!("the label {LABEL} is '{}', not 'own'", other.unwrap_or_default())),
        };
        let role = task.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.as_deref());
        let wanted = asked || self.all || role.is_some_and(|role| self.roles.contains(role));
        if wanted {
            let nothing = ContainerInfo::default();
            let info = task.container.as_deref().unwrap_or(&nothing).linux_info.clone().unwrap_or_default();
            if info.share_pid_namespace() || info.ipc_mode() == linux_info::IpcMode::ShareParent {
                return Err(
                    "a container with a user namespace of its own cannot share the node's processes or IPC".to_owned()
                );
            }
        }
        Ok(wanted)
    }
}

/// The first id of a range nobody has.
#[must_use]
pub fn free(taken: &BTreeSet<u32>) -> Option<u32> {
    (0..RANGES).map(|number| FIRST + number * SIZE).find(|first| !taken.contains(first))
}

/// What somebody in the container is called outside; nobody if the range does not reach so far.
#[must_use]
pub fn outside(first: u32, user: User) -> Option<User> {
    (user.uid < SIZE && user.gid < SIZE).then(|| User { uid: first + user.uid, gid: first + user.gid })
}

/// What an id is called in its container, if it is of any range.
#[must_use]
pub fn inside(id: u32) -> Option<u32> {
    (FIRST..FIRST + RANGES * SIZE).contains(&id).then_some(id % SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(text: &str) -> TaskInfo {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn no_two_have_the_same_range_and_the_last_is_the_last() {
        let mut taken = BTreeSet::new();
        for _ in 0..RANGES {
            assert!(taken.insert(free(&taken).unwrap()));
        }
        assert_eq!(free(&taken), None);
        assert!(taken.iter().all(|first| first % SIZE == 0 && inside(first + 7) == Some(7)));
        taken.remove(&(FIRST + SIZE));
        assert_eq!(free(&taken), Some(FIRST + SIZE));
        assert_eq!((inside(0), inside(FIRST - 1), inside(FIRST + RANGES * SIZE)), (None, None, None));
        assert_eq!(outside(FIRST, User { uid: 1, gid: 2 }), Some(User { uid: FIRST + 1, gid: FIRST + 2 }));
        assert_eq!(outside(FIRST, User { uid: SIZE, gid: 2 }), None);
    }

    #[test]
    fn a_task_asks_or_its_role_has_it() {
        let asks = task(r#"{"labels":{"labels":[{"key":"mesolith.user_namespace","value":"own"}]}}"#);
        let role = task(
            r#"{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"web"}}]}"#,
        );
        let none = UserNamespaces::default();
        assert_eq!(
            (none.wanted(&asks), none.wanted(&role), none.wanted(&task("{}"))),
            (Ok(true), Ok(false), Ok(false))
        );
        assert_eq!(UserNamespaces::parse("batch,web").unwrap().wanted(&role), Ok(true));
        assert_eq!(UserNamespaces::parse("batch").unwrap().wanted(&role), Ok(false));
        assert_eq!(UserNamespaces::parse("all").unwrap().wanted(&task("{}")), Ok(true));
        assert!(UserNamespaces::parse("a,,b").is_err() && UserNamespaces::parse("").is_err());
        let wrong = task(r#"{"labels":{"labels":[{"key":"mesolith.user_namespace","value":"host"}]}}"#);
        assert!(none.wanted(&wrong).unwrap_err().contains("'host'"));
        let shared = task(r#"{"container":{"type":"MESOS","linux_info":{"share_pid_namespace":true}}}"#);
        assert!(UserNamespaces::parse("all").unwrap().wanted(&shared).is_err());
    }
}
