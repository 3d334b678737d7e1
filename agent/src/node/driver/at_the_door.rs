//! What the driver tells those who speak to the node itself.

use agent_core::agent::Agent;
use agent_core::launch::Seat;
use agent_core::record::{Part, Record};
use api::ContainerId;
use api::facts::winners;
use api::v1::resources_from_wire;

use super::Driver;
use crate::logging::chain;
use crate::node::door::picture::Picture;
use crate::node::door::wish::{Root, Wish};

impl Driver {
    pub(super) fn at_the_door(&mut self, wish: Wish) {
        match wish {
            Wish::Inquire { inquiry, reply } => self.inquiries.put(*inquiry, reply, self.session.as_ref()),
            Wish::Picture(reply) => drop(reply.send(Box::new(self.picture()))),
            Wish::Node(reply) => drop(reply.send(Box::new(self.head()))),
            Wish::Running(reply) => {
                let running = self.supervision.agent.records().map(|record| record.container.clone());
                drop(reply.send(running.collect()));
            }
            Wish::Token { token, reply } => {
                drop(reply.send(self.supervision.agent.executor_of_token(&token).cloned()));
            }
            Wish::Container { container, reply } => drop(reply.send(self.root(&container))),
            Wish::Prune { keep, reply } => {
                let store = self.supervision.images.store().cloned();
                tokio::task::spawn_blocking(move || {
                    let pruned = store.map_or(Ok(0), |store| store.prune(&keep).map_err(|error| chain(&error)));
                    drop(reply.send(pruned));
                });
            }
        }
    }

    fn picture(&self) -> Picture {
        let agent: &Agent = &self.supervision.agent;
        let mut picture = Picture {
            passwd: agent.site().root.passwd.clone(),
            flags: self.settings.flags(),
            running: self.running(),
            ..self.head()
        };
        if let Some(past) = &self.supervision.past {
            picture.add_runs(agent, past);
        }
        picture
    }

    /// The node itself, whatever runs there.
    fn head(&self) -> Picture {
        let site = self.supervision.agent.site();
        let facts =
            self.told.as_ref().map(|told| api::link::facts_from_wire(told.facts().to_vec())).unwrap_or_default();
        let port = site.agent_port();
        Picture {
            agent: site.agent.to_string(),
            hostname: site.known_as.clone().unwrap_or_else(|| site.hostname.clone()),
            address: site.address.clone().or_else(|| site.known_as.clone()).unwrap_or_default(),
            port: u16::try_from(port).unwrap_or(super::EXECUTOR_PORT),
            work_dir: site.work_dir.clone(),
            master: self.master.clone(),
            registered: self.registration.as_ref().is_some_and(agent_core::registration::Registration::is_registered),
            resources: self
                .told
                .as_ref()
                .map(|told| resources_from_wire(told.resources()))
                .and_then(Result::ok)
                .unwrap_or_default(),
            attributes: winners(&facts).into_iter().map(|fact| fact.attribute.clone()).collect(),
            started_ms: self.started_ms,
            ..Picture::default()
        }
    }

    fn root(&self, container: &ContainerId) -> Option<Root> {
        let agent = &self.supervision.agent;
        let past = self.supervision.past.as_ref().and_then(|past| past.run(container));
        let record = agent.runs().find(|record| record.container == *container);
        let Some(record) = record else {
            let past = past?;
            return Some(Root {
                user: String::new(),
                process: None,
                config: self.supervision.config(container),
                isolation: self.supervision.isolation(),
                sandbox: std::path::PathBuf::new(),
                over: true,
                exit: past.exit,
            });
        };
        Some(Root {
            user: user(record),
            process: record.process.filter(|_| agent.stands(record)),
            config: self.supervision.config(container),
            isolation: self.supervision.isolation(),
            sandbox: Seat::of(agent.site(), record).sandbox.into(),
            over: record.phase.is_over(),
            exit: past.and_then(|past| past.exit),
        })
    }
}

/// As Mesos's lists mean it: the command's own, the executor's, or the framework's.
fn user(record: &Record) -> String {
    let own = record.info.command.as_ref().and_then(|command| command.user.clone());
    let executor = || match &record.part {
        Part::Member { .. } => {
            let executor = record.info.executor.as_ref()?;
            executor.command.as_ref().and_then(|command| command.user.clone())
        }
        Part::Alone | Part::Executor { .. } => None,
    };
    own.or_else(executor).unwrap_or_else(|| record.framework_info.user.clone())
}
