//! Users and groups inside an image: what its `/etc/passwd` and `/etc/group` say, read as Docker reads them.

use serde::{Deserialize, Serialize};

use crate::launch::User;

/// The two files' text; empty where the image has none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

/// Who a process is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    /// Its ids.
    pub user: User,
    /// The other groups the user is a member of.
    pub groups: Vec<u32>,
    /// What `HOME` shall be; none for a number nobody has.
    pub home: Option<String>,
}

struct Entry<'a> {
    name: &'a str,
    user: User,
    home: &'a str,
}

impl Accounts {
    /// `name`, `uid`, `name:group`, `uid:gid` and mixtures. A number needs no entry; its group is then 0, as with
    /// Docker. `None` when a name is unknown.
    #[must_use]
    pub fn find(&self, wanted: &str) -> Option<Identity> {
        let (who, group) = match wanted.split_once(':') {
            Some((who, group)) => (who, Some(group).filter(|group| !group.is_empty())),
            None => (wanted, None),
        };
        let number = who.parse::<u32>().ok();
        let by_name = self.entries().find(|entry| entry.name == who);
        // A name may consist of digits; then it is meant.
        let entry = by_name.or_else(|| self.entries().find(|entry| Some(entry.user.uid) == number));
        let mut identity = match (&entry, number) {
            (Some(entry), _) => {
                Identity { user: entry.user, groups: self.groups_of(entry), home: Some(entry.home.to_owned()) }
            }
            (None, Some(uid)) => Identity { user: User { uid, gid: 0 }, ..Identity::default() },
            // An image without accounts has a root all the same.
            (None, None) if matches!(who, "root" | "") => {
                Identity { home: Some("/root".to_owned()), ..Identity::default() }
            }
            (None, None) => return None,
        };
        if let Some(group) = group {
            identity.user.gid = self.group(group)?;
            // Who names a group wants that one only.
            identity.groups.clear();
        }
        Some(identity)
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            Some(Entry { name, user: User { uid: uid.parse().ok()?, gid: gid.parse().ok()? }, home })
        })
    }

    fn group(&self, wanted: &str) -> Option<u32> {
        self.group_entries().find(|(name, _, _)| *name == wanted).map(|(_, gid, _)| gid).or_else(|| wanted.parse().ok())
    }

    fn groups_of(&self, entry: &Entry<'_>) -> Vec<u32> {
        let member = |members: &str| members.split(',').any(|member| member.trim() == entry.name);
        let mut groups: Vec<u32> = self
            .group_entries()
            .filter(|(_, gid, members)| *gid != entry.user.gid && member(members))
            .map(|(_, gid, _)| gid)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn group_entries(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields[..] else { return None };
            Some((name, gid.parse().ok()?, members))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let accounts = Accounts {
            passwd:
                "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n33:x:7:7::/seven:/x\nbroken:x\n"
                    .to_owned(),
            group: "root:x:0:\nweb:x:33:app,other\nlogs:x:44: app\napp:x:1001:app\nbad:x:y:app\n".to_owned(),
        };
        let found = |uid, gid, groups: &[u32], home: Option<&str>| {
            Some(Identity { user: User { uid, gid }, groups: groups.to_vec(), home: home.map(str::to_owned) })
        };
        for (wanted, expected) in [
            ("app", found(1000, 1001, &[33, 44], Some("/home/app"))),
            ("1000", found(1000, 1001, &[33, 44], Some("/home/app"))),
            ("app:web", found(1000, 33, &[], Some("/home/app"))),
            ("app:5", found(1000, 5, &[], Some("/home/app"))),
            ("4242", found(4242, 0, &[], None)),
            ("4242:4243", found(4242, 4243, &[], None)),
            ("33", found(7, 7, &[], Some("/seven"))),
            ("root", found(0, 0, &[], Some("/root"))),
            ("alice", None),
            ("app:nogroup", None),
            ("-1", None),
        ] {
            assert_eq!(accounts.find(wanted), expected, "{wanted}");
        }
        assert_eq!(Accounts::default().find("root"), found(0, 0, &[], Some("/root")), "no files, yet a root");
    }
}
