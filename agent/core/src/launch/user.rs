//! Who a task runs as.

use serde::{Deserialize, Serialize};

use super::LaunchError;

/// Numeric ids, as the kernel knows them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Unprivileged everywhere.
pub(super) const NOBODY: User = User { uid: 65_534, gid: 65_534 };

/// `CommandInfo.user`, else `FrameworkInfo.user` (mesos-api 7.8), looked up in the task root.
///
/// A node has no accounts of its own. A name in the *command* was chosen for this task, so a wrong one
/// is an error. The *framework's* user is often just whoever started it (pymesos sends the login), so an
/// unknown one becomes `nobody`. Root inside the container has few capabilities left either way.
///
/// # Errors
/// When the command names a user the root does not have.
pub fn lookup_user(passwd: &str, command: Option<&str>, framework: &str) -> Result<User, LaunchError> {
    match command.filter(|name| !name.is_empty()) {
        Some(name) => find(passwd, name).ok_or_else(|| LaunchError::UnknownUser(name.to_owned())),
        None if framework.is_empty() => Ok(User::default()),
        None => Ok(find(passwd, framework).unwrap_or(NOBODY)),
    }
}

fn find(passwd: &str, name: &str) -> Option<User> {
    if name == "root" {
        return Some(User::default());
    }
    let entries = || passwd.lines().filter_map(entry);
    if let Ok(uid) = name.parse::<u32>() {
        // A bare number is its own group unless the root knows better.
        let gid = entries().find(|(_, user)| user.uid == uid).map_or(uid, |(_, user)| user.gid);
        return Some(User { uid, gid });
    }
    if name == "nobody" {
        return Some(entries().find(|(entry, _)| *entry == name).map_or(NOBODY, |(_, user)| user));
    }
    entries().find(|(entry, _)| *entry == name).map(|(_, user)| user)
}

fn entry(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, User { uid, gid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_user_must_exist_and_a_frameworks_may_not() {
        let passwd = "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\nbroken\n";
        let user = |uid, gid| Ok(User { uid, gid });
        for (command, framework, expected) in [
            (None, "root", user(0, 0)),
            (None, "", user(0, 0)),
            (None, "web", user(33, 34)),
            (None, "alice", user(65_534, 65_534)),
            (Some("web"), "root", user(33, 34)),
            (Some("33"), "root", user(33, 34)),
            (Some("1000"), "root", user(1000, 1000)),
            (Some("nobody"), "root", user(65_534, 65_534)),
            (Some(""), "web", user(33, 34)),
            (Some("alice"), "root", Err(LaunchError::UnknownUser("alice".to_owned()))),
        ] {
            assert_eq!(lookup_user(passwd, command, framework), expected, "{command:?} {framework}");
        }
    }
}
