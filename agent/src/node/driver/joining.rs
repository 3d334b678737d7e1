//! How the agent comes to a master: its certificate, its session, and what it tells of the machine.

use std::net::IpAddr;

use agent_core::registration::{self, Credential};
use api::link::{ExecutorReport, Register, TaskReport, from_agent};

use super::Driver;
use crate::node::authorities::News;
use crate::node::disks::{settled, worker};
use crate::node::events::{Event, JoinFailure};
use crate::node::identity::Identity;
use crate::node::{capacity, join, link, machine, supervision};

impl Driver {
    pub(super) fn start_join(&mut self, master: String) {
        if self.identity.as_ref().is_some_and(|identity| !identity.has_expired(supervision::now().unix_ms)) {
            // It was the clock, which is right again.
            return self.registration(registration::Event::Joined);
        }
        self.init.say(&format!("joining the cluster at {master}"));
        let name = self.settings.config.name.clone().unwrap_or_default();
        let (settings, events, hosted) = (self.settings.clone(), self.events.clone(), self.kept.machine.clone());
        let trusted = self.authorities.trusted().to_vec();
        tokio::spawn(async move {
            let detected = tokio::task::spawn_blocking(move || {
                machine::of(&hwdetect::detect(&hwdetect::SysRoot::host()), &name, hosted.as_deref())
            })
            .await;
            let result = match detected {
                Ok(machine) => join::join(settings, trusted, master, machine).await,
                Err(error) => Err(JoinFailure { reason: error.to_string(), retry: true }),
            };
            let _ = events.send(Event::Joined(result)).await;
        });
    }

    pub(super) fn joined(&mut self, result: Result<Box<Identity>, JoinFailure>) {
        match result {
            Ok(identity) => {
                self.init.say(&format!("joined as {}", identity.node_name));
                self.last_reason.clear();
                self.supervision.agent.site_mut().hostname.clone_from(&identity.node_name);
                if !self.settings.hosted && self.settings.config.name.is_none() {
                    // Nobody has named the machine before.
                    let _ = nix::unistd::sethostname(&identity.node_name);
                }
                self.identity = Some(*identity);
                self.registration(registration::Event::Joined);
            }
            Err(JoinFailure { reason, retry }) => {
                self.failed(if retry { "cannot join yet" } else { "REFUSED" }, &reason);
                self.registration(registration::Event::JoinFailed { reason, retry });
            }
        }
    }

    /// The masters tell which authorities vouch for them.
    pub(super) fn trust(&mut self, authorities: &api::link::Authorities) {
        match self.authorities.hear(&self.settings.state, authorities) {
            Ok(News::Nothing) => {}
            Ok(News::Trust) => {
                tracing::info!(count = authorities.sha256.len(), "the masters tell which authorities vouch for them");
            }
            Ok(News::Renew) => {
                tracing::info!("another authority issues certificates now: a new one is asked for");
                self.renew_anyway = true;
                self.renew_certificate();
            }
            Err(error) => tracing::error!(%error, "what the masters say of their authorities is not kept"),
        }
    }

    /// Asks for the next certificate long before this one ends. The open session goes on; the next one uses the new.
    pub(super) fn renew_certificate(&mut self) {
        let Some(identity) = self.identity.clone().filter(|_| self.session.is_some()) else { return };
        let running = self.renewal.as_ref().is_some_and(|renewal| !renewal.is_finished());
        if running || !(self.renew_anyway || identity.is_to_be_renewed(supervision::now().unix_ms)) {
            return;
        }
        let trusted = self.authorities.trusted().to_vec();
        let (settings, events, master) = (self.settings.clone(), self.events.clone(), self.master.clone());
        self.renewal = Some(tokio::spawn(async move {
            let result = join::renew(settings, trusted, master, identity).await;
            let _ = events.send(Event::Renewed(result)).await;
        }));
    }

    pub(super) fn renewed(&mut self, result: Result<Box<Identity>, JoinFailure>) {
        match result {
            Ok(identity) => {
                self.renew_anyway = false;
                tracing::info!(node = identity.node_name, "the node's certificate was renewed");
                self.identity = Some(*identity);
            }
            Err(JoinFailure { reason, .. }) => self.failed("the node's certificate cannot be renewed", &reason),
        }
    }

    /// A certificate that has ended is of no use: it takes a token again. It is kept, for it may be the clock.
    fn start_over(&mut self, master: String) {
        self.failed("joining anew", "the node's certificate has expired");
        let mut masters = self.settings.config.masters.clone();
        masters.sort_by_key(|other| *other != master);
        self.search(masters, Credential::Nothing);
    }

    pub(super) fn start_session(&mut self, master: String) {
        let Some(identity) = self.identity.clone() else { return };
        if identity.has_expired(supervision::now().unix_ms) {
            return self.start_over(master);
        }
        self.master.clone_from(&master);
        let trusted = self.authorities.trusted().to_vec();
        let generation = self.next_session();
        self.end_session();
        let (register, events) = (self.registering(master.clone(), &identity), self.events.clone());
        self.link = Some(tokio::spawn(async move {
            match register.await {
                Ok(register) => {
                    let first = from_agent::Message::Register(register);
                    link::run(master, trusted, identity, first, generation, events).await;
                }
                Err(reason) => {
                    let _ = events.send(Event::SessionEnded { generation, reason }).await;
                }
            }
        }));
    }

    /// All there is to say of this node, found out now.
    pub(super) fn registering(
        &mut self,
        master: String,
        identity: &Identity,
    ) -> impl Future<Output = Result<Register, String>> + use<> {
        let tasks = self.supervision.agent.reports().into_iter().map(|report| TaskReport {
            framework_id: report.framework.into(),
            task_id: report.task.into(),
            container_id: report.container.into(),
            state: report.state.name().to_owned(),
        });
        self.edition = new_edition();
        let executors = self.supervision.agent.executor_reports().into_iter().map(|report| ExecutorReport {
            framework_id: report.framework.into(),
            container_id: report.container.into(),
            info: Some(*report.info),
        });
        let mut register = Register {
            protocol: api::link::PROTOCOL,
            boot_id: self.settings.boot_id.clone(),
            agent_id: self.kept.agent.clone().unwrap_or_default().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: api::v1::OUR_AGENTS.to_wire(),
            tasks: tasks.collect(),
            edition: self.edition,
            executors: executors.collect(),
            authorities: self.authorities.trusted().iter().map(|one| one.to_vec()).collect(),
            ..Register::default()
        };
        let (settings, events, hosted) = (self.settings.clone(), self.events.clone(), self.kept.machine.clone());
        let address = self.online.as_ref().and_then(|online| online.address);
        let domain = self.online.as_ref().and_then(|online| online.domain.clone());
        let name = identity.node_name.clone();
        let surroundings = self.surroundings.clone();
        // The session begins with a look.
        self.look.clear();
        async move {
            if !settings.hosted {
                // What is on a disk that comes a moment later, the master would take for lost.
                settled::settled().await;
                let settings = settings.clone();
                let _ = tokio::task::spawn_blocking(move || worker::mount_ours(&settings)).await;
            }
            // Detected anew for each session and not kept: hardware may come and go, and the inventory is large.
            let detected = {
                let (name, settings) = (name.clone(), settings.clone());
                let look = move || capacity::detect(&settings, &surroundings, &name, hosted.as_deref());
                tokio::task::spawn_blocking(look).await.map_err(|error| error.to_string())?
            };
            // The one that is used, of a node with several.
            let used = own_address(&master).await.ok().or(address);
            let address = used.map(|address| address.to_string()).unwrap_or_default();
            register.hostname = domain.map_or_else(|| address.clone(), |domain| format!("{name}.{domain}"));
            let _ = events.send(Event::Told(Box::new(detected.told()))).await;
            let _ = events.send(Event::KnownAs { hostname: register.hostname.clone() }).await;
            register.address = address;
            register.machine = Some(detected.machine);
            register.inventory_json = detected.inventory_json;
            register.kernel = detected.kernel;
            register.capacity = Some(detected.capacity);
            Ok(register)
        }
    }
}

/// A name for what a master is told; no other has it.
pub(super) fn new_edition() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 | 1
}

/// The address this host has towards the master.
async fn own_address(master: &str) -> std::io::Result<IpAddr> {
    let any: IpAddr = if master.starts_with('[') {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    };
    let socket = tokio::net::UdpSocket::bind((any, 0)).await?;
    // Sends nothing: it only asks the routing table.
    socket.connect(master).await?;
    Ok(socket.local_addr()?.ip())
}
