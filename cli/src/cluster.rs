//! What the master's `/state` says, as far as people ask, and how they name things in it.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::advice::advise;
use crate::master::{Master, Refused};

/// Which tasks or frameworks to list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Which {
    /// Those that are not over.
    Current,
    /// Those that are, too.
    All,
}

/// `/state`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) slaves: Vec<Node>,
    #[serde(default)]
    pub(crate) frameworks: Vec<Framework>,
    #[serde(default)]
    pub(crate) completed_frameworks: Vec<Framework>,
}

/// An agent.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) hostname: String,
    /// What the operator calls the machine; Mesos has no word for it, so it comes from our own list.
    #[serde(skip)]
    node: Option<String>,
    /// `connected`, `disconnected` or `unreachable`, from the same list.
    #[serde(skip)]
    state: Option<String>,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub(crate) resources: Amounts,
    #[serde(default)]
    pub(crate) used_resources: Amounts,
    #[serde(default)]
    pub(crate) offered_resources: Amounts,
    #[serde(default)]
    pub(crate) active: bool,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) registered_time: f64,
    #[serde(default)]
    pub(crate) reregistered_time: Option<f64>,
}

impl Node {
    /// The name people use.
    pub(crate) fn name(&self) -> &str {
        self.node.as_deref().unwrap_or(&self.hostname)
    }

    /// Ours where the master tells it, else Mesos's `active` or `inactive`.
    pub(crate) fn state(&self) -> &str {
        self.state.as_deref().unwrap_or(if self.active { "active" } else { "inactive" })
    }

    fn is_called(&self, text: &str) -> bool {
        self.name() == text || self.id == text || self.hostname == text
    }

    /// `rack=r1-a`, sorted by name: place and what people typed. Families of detected ones (`cpu.cores`) are many, and
    /// `mesolith hw` shows them.
    pub(crate) fn attributes_text(&self) -> String {
        let short = self.attributes.iter().filter(|(name, _)| !name.contains('.') && !DETAILS.contains(&name.as_str()));
        let texts = short.map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        });
        texts.collect::<Vec<_>>().join(" ")
    }
}

/// Attributes that say nothing of a place, and are no family.
const DETAILS: [&str; 4] = ["iommu", "ip", "virt", "watchdog"];

/// `/mesolith/v1/nodes`.
#[derive(Debug, Default, Deserialize)]
struct NodeList {
    nodes: Vec<ListedNode>,
}

/// What our own list says of an agent beyond Mesos's.
#[derive(Debug, Deserialize)]
struct ListedNode {
    name: String,
    agent_id: String,
    state: String,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    attributes: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    resources: Amounts,
    #[serde(default)]
    version: String,
}

/// Mesos's model of resources: numbers for the four known ones.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Amounts {
    #[serde(default)]
    pub(crate) cpus: f64,
    /// MiB.
    #[serde(default)]
    pub(crate) mem: f64,
    /// MiB.
    #[serde(default)]
    pub(crate) disk: f64,
    #[serde(default)]
    pub(crate) gpus: f64,
}

/// A framework.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Framework {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) principal: Option<String>,
    #[serde(default)]
    pub(crate) role: Option<String>,
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    #[serde(default)]
    pub(crate) active: bool,
    #[serde(default)]
    pub(crate) connected: bool,
    #[serde(default)]
    pub(crate) used_resources: Amounts,
    #[serde(default)]
    pub(crate) registered_time: f64,
    #[serde(default)]
    pub(crate) tasks: Vec<Task>,
    #[serde(default)]
    pub(crate) unreachable_tasks: Vec<Task>,
    #[serde(default)]
    pub(crate) completed_tasks: Vec<Task>,
    #[serde(default)]
    pub(crate) offers: Vec<Offer>,
}

impl Framework {
    /// The roles it is offered resources for.
    pub(crate) fn roles_text(&self) -> String {
        if self.roles.is_empty() { self.role.clone().unwrap_or_else(|| "*".to_owned()) } else { self.roles.join(",") }
    }

    /// Tasks that are not over, then those that are.
    pub(crate) fn all_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().chain(&self.unreachable_tasks).chain(&self.completed_tasks)
    }
}

/// A task.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) framework_id: String,
    #[serde(default)]
    pub(crate) slave_id: String,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) resources: Amounts,
    #[serde(default)]
    pub(crate) statuses: Vec<Status>,
}

/// The last status of one state of a task.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) timestamp: f64,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// An outstanding offer.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Offer {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) slave_id: String,
    #[serde(default)]
    pub(crate) resources: Amounts,
}

impl State {
    /// Asks the master.
    pub(crate) async fn read(master: &Master) -> Result<Self> {
        let (state, list) = tokio::join!(master.json::<Self>("/state"), master.json::<NodeList>("/mesolith/v1/nodes"));
        let mut state = state?;
        match list {
            Ok(list) => state.join(list),
            // A Mesos master has no such list; its nodes go by their host names.
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404) => {}
            Err(error) => return Err(error),
        }
        Ok(state)
    }

    /// Adds names, and the nodes Mesos does not show because they are unreachable.
    fn join(&mut self, list: NodeList) {
        for listed in list.nodes {
            let known = self.slaves.iter().position(|node| node.id == listed.agent_id);
            let index = known.unwrap_or_else(|| {
                let ListedNode { agent_id: id, hostname, attributes, resources, version, .. } = &listed;
                let (id, hostname, attributes, version) =
                    (id.clone(), hostname.clone(), attributes.clone(), version.clone());
                self.slaves.push(Node { id, hostname, attributes, resources: *resources, version, ..Node::default() });
                self.slaves.len() - 1
            });
            self.slaves[index].node = Some(listed.name);
            self.slaves[index].state = Some(listed.state);
        }
    }

    /// The name of the node with that agent id; a node that is gone keeps its id.
    pub(crate) fn node_name<'a>(&'a self, agent: &'a str) -> &'a str {
        self.slaves.iter().find(|node| node.id == agent).map_or(agent, Node::name)
    }

    /// Running frameworks, then those that are gone.
    pub(crate) fn all_frameworks(&self) -> impl Iterator<Item = &Framework> {
        self.frameworks.iter().chain(&self.completed_frameworks)
    }

    /// The node a person means by its name, agent id or host name.
    pub(crate) fn find_node(&self, text: &str) -> Option<&Node> {
        self.slaves
            .iter()
            .find(|node| node.name() == text)
            .or_else(|| self.slaves.iter().find(|node| node.is_called(text)))
    }

    /// The node, or an error that names those there are.
    pub(crate) fn node(&self, text: &str) -> Result<&Node> {
        self.find_node(text).ok_or_else(|| {
            let mut names: Vec<&str> = self.slaves.iter().map(Node::name).collect();
            names.sort_unstable();
            let next = if names.is_empty() {
                "no node has joined yet: look at their consoles and the master's log".to_owned()
            } else {
                format!("the nodes are {}", listed(&names))
            };
            advise(format!("no node is called `{text}`"), next)
        })
    }

    /// The task a person means by `TASK` or `FRAMEWORK/TASK`. Of tasks with one id in several frameworks, the only
    /// one that is not over is meant.
    pub(crate) fn find_task(&self, text: &str) -> Result<Option<&Task>> {
        let mut found: Vec<(&Framework, &Task)> = Vec::new();
        for framework in self.all_frameworks() {
            let wanted = text
                .split_once('/')
                .filter(|(owner, _)| *owner == framework.id || *owner == framework.name)
                .map_or(text, |(_, task)| task);
            found.extend(framework.all_tasks().filter(|task| task.id == wanted).map(|task| (framework, task)));
        }
        if found.len() > 1 {
            let alive: Vec<_> = found
                .iter()
                .copied()
                .filter(|(framework, task)| framework.tasks.iter().any(|t| std::ptr::eq(t, *task)))
                .collect();
            if alive.len() == 1 {
                found = alive;
            }
        }
        match found[..] {
            [] => Ok(None),
            [(_, task)] => Ok(Some(task)),
            _ => {
                let names: Vec<String> =
                    found.iter().map(|(framework, task)| format!("{}/{}", framework.id, task.id)).collect();
                Err(advise(
                    format!("several frameworks have a task `{text}`"),
                    format!("say which: {}", names.join(" or ")),
                ))
            }
        }
    }

    /// The subscribed framework a person means by its id or its name.
    pub(crate) fn framework(&self, text: &str) -> Result<&Framework> {
        if let Some(framework) = self.frameworks.iter().find(|framework| framework.id == text) {
            return Ok(framework);
        }
        let named: Vec<&Framework> = self.frameworks.iter().filter(|framework| framework.name == text).collect();
        match named[..] {
            [framework] => Ok(framework),
            [] if self.completed_frameworks.iter().any(|framework| framework.id == text) => Err(advise(
                format!("framework `{text}` is gone already"),
                "`mesolith frameworks --all` shows the past ones",
            )),
            [] => Err(advise(format!("no framework has the id or name `{text}`"), "`mesolith frameworks` lists them")),
            _ => {
                let ids: Vec<&str> = named.iter().map(|framework| framework.id.as_str()).collect();
                Err(advise(
                    format!("{} frameworks are called `{text}`", ids.len()),
                    format!("say which: {}", ids.join(" or ")),
                ))
            }
        }
    }
}

/// At most eight names, then how many more.
fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 8 { format!("{shown} and {} more", names.len() - 8) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state: State = serde_json::from_value(serde_json::json!({
            "slaves": [{"id": "M-S0", "hostname": "10.77.0.11", "attributes": {"rack": "r1", "level": 3.0}},
                       {"id": "M-S1", "hostname": "10.77.0.12"}],
            "frameworks": [
                {"id": "M-0000", "name": "web", "tasks": [{"id": "a"}], "completed_tasks": [{"id": "old"}]},
                {"id": "M-0001", "name": "web", "tasks": [{"id": "a"}, {"id": "x/y"}]}],
            "completed_frameworks": [{"id": "M-0002", "name": "gone", "completed_tasks": [{"id": "old2"}, {"id": "a"}]}]
        }))
        .unwrap();
        let list = serde_json::json!({"nodes": [
            {"name": "node-1", "agent_id": "M-S0", "state": "connected"},
            {"name": "node-3", "agent_id": "M-S2", "state": "unreachable", "hostname": "10.77.0.13"}]});
        state.join(serde_json::from_value(list).unwrap());
        state
    }

    #[test]
    fn nodes_answer_to_name_id_and_address() {
        let state = state();
        for (text, id) in
            [("node-1", "M-S0"), ("M-S0", "M-S0"), ("10.77.0.11", "M-S0"), ("10.77.0.12", "M-S1"), ("node-3", "M-S2")]
        {
            assert_eq!(state.node(text).unwrap().id, id, "{text}");
        }
        assert_eq!((state.node_name("M-S0"), state.node_name("M-S9")), ("node-1", "M-S9"));
        let (_, next) = crate::advice::describe(&state.node("node-7").unwrap_err());
        assert_eq!(next.as_deref(), Some("the nodes are 10.77.0.12, node-1, node-3"));
        assert_eq!(state.slaves[0].attributes_text(), "level=3.0 rack=r1");
    }

    #[test]
    fn a_task_id_in_two_frameworks_needs_the_framework() {
        let state = state();
        assert_eq!(state.find_task("old").unwrap().unwrap().id, "old");
        assert_eq!(state.find_task("x/y").unwrap().unwrap().id, "x/y");
        assert!(state.find_task("a").is_err());
        assert!(state.find_task("M-0001/a").unwrap().is_some());
        assert!(state.find_task("nothing").unwrap().is_none());
    }

    #[test]
    fn a_framework_name_must_be_unique_and_alive() {
        let state = state();
        assert_eq!(state.framework("M-0000").unwrap().id, "M-0000");
        for bad in ["web", "gone", "M-0002", ""] {
            assert!(state.framework(bad).is_err(), "{bad}");
        }
    }
}
