//! The nodes that clients see.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::wire::Reply;
use crate::raft::{Seat, Standing};

/// Where Mesos's masters are, by the usual URL.
pub(super) const DIRECTORY: &str = "/mesos";
/// Added to the numbers of those who do not lead: theirs are higher than any term.
const BEHIND_THE_LEADER: u64 = 5_000_000_000;
/// For a name server.
const RESOLVE: Duration = Duration::from_secs(2);

/// All nodes at one moment.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Grows with every change, and is no lower on another master that has seen a later term.
    pub(super) zxid: i64,
    /// Names below the directory, and what is in them.
    masters: BTreeMap<String, Vec<u8>>,
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Node {
    pub(super) data: Vec<u8>,
    pub(super) children: Vec<String>,
}

impl Tree {
    /// As the members are. Without a leader there is nobody: a client takes the lowest number for the leader.
    pub(super) async fn of(standing: &Standing, version: &str, before: i64) -> Self {
        let term = i64::try_from(standing.term).unwrap_or(i64::MAX >> 20);
        let mut tree = Self { zxid: (before + 1).max(term << 20), masters: BTreeMap::new() };
        let Some(leader) = standing.leader else { return tree };
        for seat in standing.members.iter().filter(|seat| !seat.member.http.is_empty()) {
            let number = if seat.id == leader { standing.term } else { BEHIND_THE_LEADER + seat.id };
            if let Some(info) = info(seat, version).await {
                tree.masters.insert(format!("json.info_{number:010}"), info);
            }
        }
        tree
    }

    /// What is at a path.
    pub(super) fn node(&self, path: &str) -> Option<Node> {
        let directory = |children: Vec<String>| Some(Node { data: Vec::new(), children });
        match path {
            "/" => directory(vec![DIRECTORY[1..].to_owned()]),
            DIRECTORY => directory(self.masters.keys().cloned().collect()),
            _ => {
                let name = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
                Some(Node { data: self.masters.get(name)?.clone(), children: Vec::new() })
            }
        }
    }
}

impl Node {
    /// ZooKeeper's `Stat`.
    pub(super) fn write_stat(&self, reply: Reply, zxid: i64) -> Reply {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        // Created, modified; when; versions of data, children and rights.
        let reply = reply.long(zxid).long(zxid).long(0).long(0).int(0).int(0).int(0);
        // Whose session it lives with; sizes; the children's last change.
        reply.long(0).int(count(self.data.len())).int(count(self.children.len())).long(zxid)
    }
}

/// Mesos's `MasterInfo` as JSON.
async fn info(seat: &Seat, version: &str) -> Option<Vec<u8>> {
    let (host, port) = seat.member.http.rsplit_once(':')?;
    let (host, port) = (host.trim_matches(['[', ']']), port.parse::<u16>().ok()?);
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => {
            let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host, port))).await.ok()?.ok()?;
            found.map(|address| address.ip()).min()?
        }
    };
    let number = match ip {
        // In network order, read as a number of this machine: as Mesos does.
        IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
        IpAddr::V6(_) => 0,
    };
    let info = json!({
        "address": { "hostname": host, "ip": ip.to_string(), "port": port },
        "hostname": host,
        "id": format!("master-{}", seat.id),
        "ip": number,
        "pid": format!("master@{ip}:{port}"),
        "port": port,
        "version": version,
    });
    serde_json::to_vec(&info).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Member;

    fn standing(leader: Option<u64>, term: u64) -> Standing {
        let seat = |id: u64| Seat {
            id,
            member: Member { addr: String::new(), http: format!("10.0.0.{id}:5050") },
            voter: true,
            lag: None,
        };
        Standing { id: 1, term, leader, last_log: None, applied: None, members: vec![seat(1), seat(2), seat(7)] }
    }

    #[tokio::test]
    async fn the_leader_has_the_lowest_number_and_without_one_there_is_nobody() {
        let tree = Tree::of(&standing(Some(2), 41), "1.11.0", 3).await;
        let children = tree.node("/mesos").unwrap().children;
        assert_eq!(children, ["json.info_0000000041", "json.info_5000000001", "json.info_5000000007"]);
        let leader: serde_json::Value =
            serde_json::from_slice(&tree.node("/mesos/json.info_0000000041").unwrap().data).unwrap();
        assert_eq!((&leader["address"]["ip"], &leader["address"]["port"]), (&json!("10.0.0.2"), &json!(5050)));
        assert_eq!(leader["ip"], json!(0x0200_000a));
        assert_eq!(tree.node("/"), Some(Node { data: Vec::new(), children: vec!["mesos".to_owned()] }));
        assert_eq!((tree.node("/mesos/x"), tree.node("/mesosx"), tree.node("")), (None, None, None));
        let nobody = Tree::of(&standing(None, 42), "1.11.0", tree.zxid).await;
        assert_eq!(nobody.node("/mesos").unwrap().children, [""; 0]);
        assert!(nobody.zxid > tree.zxid);
    }
}
