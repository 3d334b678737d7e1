//! Frameworks: subscribing, coming back, going away.

use std::collections::BTreeSet;
use std::time::Duration;

use api::v1::scheduler::{Event, call};
use api::v1::{Address, Capability, FrameworkInfo, MasterInfo, master_info};
use api::{AgentId, FrameworkId, Milli};

use super::{Leader, Subscriber, Timer, Turn};
use crate::acl::Action;
use crate::allocator::{Abilities, Activity, Subscription};
use crate::command::{Command, SubscribeFramework};
use crate::io::{Output, RequestId, Response, StreamId, ToAgent};
use crate::state::Framework;
use crate::validate;

/// What a framework wants for some of its roles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// No offers.
    Suppress,
    /// Offers, whatever it refused.
    Revive,
}

impl Leader {
    pub(super) fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        stream: StreamId,
        subscribe: call::Subscribe,
    ) {
        let info = subscribe.framework_info;
        let given = info.id.clone().filter(|id| !id.as_str().is_empty());
        let refused = validate::framework(&info, &subscribe.suppressed_roles).err().or_else(|| {
            let removed = given.as_ref().is_some_and(|id| turn.state.is_completed(id));
            removed.then(|| "Framework has been removed".to_owned())
        });
        let refused = refused.or_else(|| validate::failover_timeout(&info).err());
        let refused =
            refused.or_else(|| subscribe.offer_constraints.as_ref().and_then(|wire| validate::constraints(wire).err()));
        let refused = refused.or_else(|| self.forbidden(turn, &info, given.as_ref()));
        if let Some(refused) = refused {
            tracing::info!(name = %info.name, reason = %refused, "refused a framework");
            self.subscribing.insert(stream.clone(), request);
            self.subscribe_refused(turn, stream.0, &refused);
            return;
        }
        let framework = given.unwrap_or_else(|| {
            let id = FrameworkId::from(format!("{}-{:04}", self.prefix(turn.state), self.next_framework));
            self.next_framework += 1;
            id
        });
        self.subscribing.insert(stream.clone(), request);
        turn.propose(Command::SubscribeFramework(Box::new(SubscribeFramework {
            framework,
            info,
            suppressed_roles: subscribe.suppressed_roles,
            offer_constraints: subscribe.offer_constraints.map(Box::new),
            stream: stream.0,
            at: turn.now.unix_ms,
        })));
    }

    /// May this principal have a framework in these roles, and is it still the one it was?
    fn forbidden(&self, turn: &Turn<'_>, info: &FrameworkInfo, id: Option<&FrameworkId>) -> Option<String> {
        let roles = info.effective_roles();
        let names = roles.iter().map(String::as_str);
        let principal = info.principal.as_deref();
        if self.config.acls.allows_each(principal, Action::RegisterFramework, names).is_err() {
            let id = id.map(FrameworkId::as_str).unwrap_or_default();
            return Some(format!("Not authorized to register framework {id} with roles {{ {} }}", roles.join(", ")));
        }
        let known = id.and_then(|id| turn.state.framework(id));
        let other = known.is_some_and(|known| known.info.principal != info.principal);
        other.then(|| "Changing framework's principal is not allowed.".to_owned())
    }

    /// As Mesos: the HTTP exchange succeeds, and the stream says ERROR and ends.
    pub(super) fn subscribe_refused(&mut self, turn: &mut Turn<'_>, stream: String, why: &str) {
        let stream = StreamId(stream);
        let Some(request) = self.subscribing.remove(&stream) else { return };
        turn.counters.calls_refused += 1;
        turn.respond(request, Response::Stream(stream.clone()));
        turn.send(&stream, Event::new_error(why));
        turn.outputs.push(Output::CloseStream(stream));
    }

    /// A SUBSCRIBE is committed.
    pub(super) fn subscribed(&mut self, turn: &mut Turn<'_>, id: &FrameworkId, stream: String) {
        let stream = StreamId(stream);
        let Some(framework) = turn.state.framework(id) else { return };
        if let Some(old) = self.subscribers.remove(id) {
            self.streams.remove(&old.stream);
            turn.send(&old.stream, Event::new_error("Framework failed over"));
            turn.outputs.push(Output::CloseStream(old.stream));
        }
        self.discard_offers_of(id);
        self.discard_inverse_offers(turn, id);
        self.retry_operations_of(turn, Some(id));
        self.allocator.deactivate_framework(id); // a new scheduler has refused nothing yet
        self.timers.clear(&Timer::RemoveFramework(id.clone()));
        let Some(request) = self.subscribing.remove(&stream) else {
            // It hung up before the commit, or subscribed with a former leader.
            self.allocator.set_framework(id, &subscription(framework), Activity::Inactive);
            if framework.stream == stream.0 {
                self.propose_disconnect(turn, framework, &stream);
            }
            return;
        };
        tracing::info!(framework = %id, name = %framework.info.name, "framework subscribed");
        turn.respond(request, Response::Stream(stream.clone()));
        turn.send(
            &stream,
            Event::new_subscribed(id.clone(), self.config.heartbeat_interval.as_secs_f64(), self.master_info(turn)),
        );
        self.streams.insert(stream.clone(), id.clone());
        let suppressed = framework.suppressed_roles.clone();
        self.subscribers.insert(id.clone(), Subscriber { stream, suppressed });
        self.heartbeat(turn, id.clone());
        self.allocator.set_framework(id, &subscription(framework), Activity::Active);
    }

    fn master_info(&self, turn: &Turn<'_>) -> MasterInfo {
        let config = &self.config;
        let ip = config.ip.parse().map_or(0, |ip: std::net::Ipv4Addr| u32::from_le_bytes(ip.octets()));
        let port = u32::from(config.port);
        let capability = |kind: master_info::capability::Type| master_info::Capability { r#type: Some(kind.into()) };
        MasterInfo {
            id: self.prefix(turn.state).to_string(),
            ip,
            port,
            pid: Some(format!("master@{}:{}", config.ip, config.port)),
            hostname: Some(config.hostname.clone()),
            version: Some(config.version.clone()),
            address: Some(Address {
                hostname: Some(config.hostname.clone()),
                ip: Some(config.ip.clone()),
                port: config.port.into(),
            }),
            domain: None,
            capabilities: [
                master_info::capability::Type::AgentUpdate,
                master_info::capability::Type::AgentDraining,
                master_info::capability::Type::QuotaV2,
            ]
            .map(capability)
            .to_vec(),
        }
    }

    pub(super) fn heartbeat(&mut self, turn: &mut Turn<'_>, framework: FrameworkId) {
        if self.subscribers.contains_key(&framework) {
            self.tell(turn, &framework, Event::new_heartbeat());
            self.timers.set(Timer::Heartbeat(framework), turn.now.monotonic + self.config.heartbeat_interval);
        }
    }

    pub(super) fn stream_closed(&mut self, turn: &mut Turn<'_>, stream: &StreamId) {
        self.subscribing.remove(stream);
        let Some(id) = self.streams.remove(stream) else { return };
        self.subscribers.remove(&id);
        self.timers.clear(&Timer::Heartbeat(id.clone()));
        self.discard_offers_of(&id);
        self.discard_inverse_offers(turn, &id);
        self.allocator.deactivate_framework(&id);
        if let Some(framework) = turn.state.framework(&id) {
            tracing::info!(framework = %id, name = %framework.info.name, "framework disconnected");
            self.propose_disconnect(turn, framework, stream);
        }
    }

    fn propose_disconnect(&self, turn: &mut Turn<'_>, framework: &Framework, stream: &StreamId) {
        turn.propose(Command::DisconnectFramework {
            framework: framework.id.clone(),
            stream: stream.0.clone(),
            at: turn.now.unix_ms,
            remove_at: turn.now.unix_ms.saturating_add(framework.failover_timeout_ms()),
        });
    }

    pub(super) fn framework_disconnected(&mut self, turn: &mut Turn<'_>, id: &FrameworkId, remove_at: u64) {
        let left = Duration::from_millis(remove_at.saturating_sub(turn.now.unix_ms));
        self.timers.set(Timer::RemoveFramework(id.clone()), turn.now.monotonic.saturating_add(left));
    }

    pub(super) fn operator_teardown(&mut self, turn: &mut Turn<'_>, request: RequestId, framework: FrameworkId) {
        if turn.state.framework(&framework).is_none() {
            turn.refuse(request, 400, "No framework found with specified ID");
            return;
        }
        self.tearing_down.entry(framework.clone()).or_default().push(request);
        turn.propose(Command::RemoveFramework { framework, at: turn.now.unix_ms });
    }

    pub(super) fn framework_removed(&mut self, turn: &mut Turn<'_>, id: &FrameworkId, agents: &[AgentId]) {
        tracing::info!(framework = %id, "framework removed");
        self.discard_offers_of(id);
        self.discard_inverse_offers(turn, id);
        self.allocator.remove_framework(id);
        for timer in [Timer::RemoveFramework(id.clone()), Timer::Heartbeat(id.clone())] {
            self.timers.clear(&timer);
        }
        for agent in agents {
            if let Some(session) = self.session_of(agent) {
                turn.tell_agent(session, ToAgent::ShutdownFramework { framework: id.clone() });
            }
        }
        if let Some(subscriber) = self.subscribers.remove(id) {
            self.streams.remove(&subscriber.stream);
            turn.outputs.push(Output::CloseStream(subscriber.stream));
        }
        for request in self.tearing_down.remove(id).unwrap_or_default() {
            turn.respond(request, Response::Ok);
        }
        for request in self.updating.remove(id).unwrap_or_default() {
            turn.refuse(request, 409, "Framework has been removed");
        }
    }

    pub(super) fn update_framework(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        framework: &Framework,
        update: call::UpdateFramework,
    ) {
        let new = &update.framework_info;
        let checked = validate::framework(new, &update.suppressed_roles)
            .and_then(|()| validate::failover_timeout(new))
            .map_err(|error| format!("Supplied FrameworkInfo is not valid: {error}"))
            .and_then(|()| {
                validate::update(&framework.info, new)
                    .map_err(|error| format!("FrameworkInfo update is not valid: {error}"))
            })
            .and_then(|()| {
                let wire = update.offer_constraints.as_ref();
                wire.map_or(Ok(()), |wire| validate::constraints(wire).map(|_| ()))
                    .map_err(|error| format!("'UpdateFramework.offer_constraints' are not valid: {error}"))
            });
        if let Err(refused) = checked {
            turn.refuse(request, 400, refused);
            return;
        }
        if let Some(forbidden) = self.forbidden(turn, new, Some(&framework.id)) {
            turn.refuse(request, 403, forbidden);
            return;
        }
        if let Some(subscriber) = self.subscribers.get_mut(&framework.id) {
            subscriber.suppressed = update.suppressed_roles.iter().cloned().collect();
        }
        self.updating.entry(framework.id.clone()).or_default().push(request);
        turn.propose(Command::UpdateFramework {
            framework: framework.id.clone(),
            info: Box::new(update.framework_info),
            suppressed_roles: update.suppressed_roles,
            offer_constraints: update.offer_constraints.map(Box::new),
        });
    }

    pub(super) fn framework_updated(&mut self, turn: &mut Turn<'_>, id: &FrameworkId) {
        let Some(framework) = turn.state.framework(id) else { return };
        let listens = self.subscribers.contains_key(id);
        let activity = if listens { Activity::Active } else { Activity::Inactive };
        self.allocator.set_framework(id, &subscription(framework), activity);
        for request in self.updating.remove(id).unwrap_or_default() {
            turn.respond(request, Response::Ok);
        }
    }

    /// REVIVE and SUPPRESS. An unknown role drops the whole call, as in Mesos.
    pub(super) fn set_suppressed(
        &mut self,
        turn: &mut Turn<'_>,
        framework: &Framework,
        roles: Vec<String>,
        wish: Wish,
    ) {
        let all: BTreeSet<String> = framework.info.effective_roles().into_iter().collect();
        let roles: BTreeSet<String> = if roles.is_empty() { all.clone() } else { roles.into_iter().collect() };
        if !roles.is_subset(&all) {
            tracing::warn!(framework = %framework.id, "dropped a call for a role the framework is not subscribed to");
            return;
        }
        let Some(subscriber) = self.subscribers.get_mut(&framework.id) else { return };
        let now: BTreeSet<String> = match wish {
            Wish::Suppress => {
                self.allocator.suppress(&framework.id, &roles);
                &subscriber.suppressed | &roles
            }
            Wish::Revive => {
                self.allocator.revive(&framework.id, &roles);
                &subscriber.suppressed - &roles
            }
        };
        if now != subscriber.suppressed {
            subscriber.suppressed.clone_from(&now);
            let (framework, roles) = (framework.id.clone(), now.into_iter().collect());
            turn.propose(Command::SetSuppressedRoles { framework, roles });
        }
    }
}

/// A framework as the allocator sees it.
pub(super) fn subscription(framework: &Framework) -> Subscription {
    let info = &framework.info;
    let mut subscription = Subscription {
        roles: info.effective_roles().into_iter().collect(),
        suppressed: framework.suppressed_roles.clone(),
        abilities: Abilities {
            gpus: info.has(Capability::GpuResources),
            revocable: info.has(Capability::RevocableResources),
            shared: info.has(Capability::SharedResources),
            refinement: info.has(Capability::ReservationRefinement),
            region_aware: info.has(Capability::RegionAware),
            multi_role: info.has(Capability::MultiRole),
        },
        ..Subscription::default()
    };
    if let Some(wire) = &framework.offer_constraints {
        // They were valid when they were committed.
        subscription.constraints = validate::constraints(wire).unwrap_or_default();
    }
    for (role, filters) in &info.offer_filters {
        let Some(minimum) = &filters.min_allocatable_resources else { continue };
        let alternatives = minimum.quantities.iter().map(|alternative| {
            let named = alternative
                .quantities
                .iter()
                .filter_map(|(name, amount)| Some((name.clone(), Milli::from_units(amount.value)?)));
            named.collect()
        });
        subscription.min_allocatable.insert(role.clone(), alternatives.collect());
    }
    subscription
}
