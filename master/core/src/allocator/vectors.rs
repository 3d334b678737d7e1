//! Replays recorded allocator histories: what Mesos's own tests expect, as data.
//!
//! Sorter steps: `set_total`, `add`, `remove`, `activate`, `deactivate`, `weight`, `allocated`,
//! `unallocated`, `expect_sort`. Allocator steps: `add_agent`, `remove_agent`, `add_framework`,
//! `remove_framework`, `set_quota`, `set_weight`, `suppress`, `revive`, `recover`, `recover_all`,
//! `allocate`, `expire_filters`, `expect`. Adding an agent runs an allocation over it, adding a
//! framework one over everything; `allocate` is the periodic one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::{Milli, Resource, Resources};
use serde_json::Value;

use super::kinds::Kinds;
use super::quantities::Quantities;
use super::sorter::{Sorter, Totals};
use super::{Abilities, Activity, AgentFacts, Allocation, Allocator, Consider, Options, Quota, Subscription};

/// Refusals in vectors last until `expire_filters`.
const FILTER: Duration = Duration::from_secs(3600);

/// Why a vector fails.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VectorError {
    /// The file is not in the schema.
    #[error("step {step}: {what}")]
    Malformed {
        /// Counted from 0.
        step: usize,
        /// What is missing or unknown.
        what: String,
    },
    /// Something else came out.
    #[error("step {step}: expected {expected}, got {got}")]
    Different {
        /// Counted from 0.
        step: usize,
        /// What the vector says.
        expected: String,
        /// What we do.
        got: String,
    },
}

/// One vector's id and how it went.
pub type VectorResult = (String, Result<(), VectorError>);

/// Runs every vector of a file.
///
/// # Errors
/// The text is not JSON, or has no list `vectors`.
pub fn run_vectors(text: &str) -> Result<Vec<VectorResult>, VectorError> {
    let malformed = |what: String| VectorError::Malformed { step: 0, what };
    let file: Value = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let vectors = file.get("vectors").and_then(Value::as_array);
    let vectors = vectors.ok_or_else(|| malformed("no list `vectors`".to_owned()))?;
    Ok(vectors.iter().map(|vector| (text_of(vector, "id").unwrap_or_default(), run_vector(vector))).collect())
}

fn run_vector(vector: &Value) -> Result<(), VectorError> {
    let mut runner: Box<dyn Replay> = match vector.get("kind").and_then(Value::as_str) {
        Some("sorter") => Box::new(SorterReplay::new()),
        Some("allocator") => Box::new(AllocatorReplay::new(vector.get("options").unwrap_or(&Value::Null))),
        _ => return Err(VectorError::Malformed { step: 0, what: "unknown `kind`".to_owned() }),
    };
    let steps = vector.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, step) in steps.iter().enumerate() {
        runner.step(step).map_err(|failure| match failure {
            Failure::Malformed(what) => VectorError::Malformed { step: index, what },
            Failure::Different { expected, got } => VectorError::Different { step: index, expected, got },
        })?;
    }
    Ok(())
}

enum Failure {
    Malformed(String),
    Different { expected: String, got: String },
}

trait Replay {
    fn step(&mut self, step: &Value) -> Result<(), Failure>;
}

fn text_of(step: &Value, name: &str) -> Option<String> {
    step.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn need(step: &Value, name: &str) -> Result<String, Failure> {
    text_of(step, name).ok_or_else(|| Failure::Malformed(format!("no text `{name}` in {step}")))
}

fn list(step: &Value, name: &str) -> Vec<Value> {
    step.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn texts(step: &Value, name: &str) -> BTreeSet<String> {
    list(step, name).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn need_resources(step: &Value, name: &str) -> Result<Resources, Failure> {
    resources(&need(step, name)?)
}

/// Mesos's text form, with `{MOUNT}` for a disk's kind and `!rev` for revocable.
fn resources(text: &str) -> Result<Resources, Failure> {
    let mut all = Resources::new();
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (key, value) = entry.split_once(':').unwrap_or((entry, ""));
        let revocable = key.contains("!rev");
        let mut key = key.replace("!rev", "");
        let mut disk = None;
        if let (Some(from), Some(to)) = (key.find('{'), key.find('}')) {
            disk = Some(Box::new(api::Disk::of_kind(api::resources::DiskKind::from_name(&key[from + 1..to]))));
            key.replace_range(from..=to, "");
        }
        let parsed =
            Resources::parse(&format!("{key}:{value}")).map_err(|error| Failure::Malformed(error.to_string()))?;
        for resource in &parsed {
            all.add(Resource { revocable, disk: disk.clone(), ..resource.clone() });
        }
    }
    Ok(all)
}

fn amounts(value: Option<&Value>) -> Result<BTreeMap<String, Milli>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::String(text)) => {
            let resources = resources(text)?;
            Ok(resources.scalars().into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect())
        }
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, amount)| {
                let amount = amount.as_f64().and_then(Milli::from_units);
                let amount = amount.ok_or_else(|| Failure::Malformed(format!("`{name}` is not an amount")))?;
                Ok((name.clone(), amount))
            })
            .collect(),
        Some(other) => Err(Failure::Malformed(format!("not amounts: {other}"))),
    }
}

struct SorterReplay {
    sorter: Sorter,
    kinds: Kinds,
    totals: Totals,
    clients: Vec<String>,
}

impl SorterReplay {
    fn new() -> Self {
        let totals = Totals::default();
        Self { sorter: Sorter::new(totals.clone()), kinds: Kinds::default(), totals, clients: Vec::new() }
    }

    fn quantities(&mut self, step: &Value) -> Result<Quantities, Failure> {
        let bag = self.kinds.bag(&need_resources(step, "resources")?);
        Ok(self.kinds.scalars(&bag))
    }

    /// The number of the step's client; one that nobody has if it was never added.
    fn client(&self, step: &Value) -> Result<u32, Failure> {
        let client = need(step, "client")?;
        Ok(self.clients.iter().rposition(|known| *known == client).map_or(u32::MAX, super::number_of))
    }
}

impl Replay for SorterReplay {
    fn step(&mut self, step: &Value) -> Result<(), Failure> {
        match need(step, "op")?.as_str() {
            "set_total" => {
                self.totals.amounts = Arc::new(self.quantities(step)?);
                self.totals.version += 1;
                self.sorter.refresh(&self.totals);
            }
            "add" => {
                let client = need(step, "client")?;
                let number = super::number_of(self.clients.len());
                self.sorter.add(&client, number);
                self.sorter.set_activity(number, Activity::Active);
                self.clients.push(client);
            }
            "remove" => self.sorter.remove(self.client(step)?),
            "activate" => self.sorter.set_activity(self.client(step)?, Activity::Active),
            "deactivate" => self.sorter.set_activity(self.client(step)?, Activity::Inactive),
            "weight" => {
                let weight = step.get("weight").and_then(Value::as_f64).unwrap_or(1.0);
                self.sorter.set_weight(&need(step, "path")?, weight);
            }
            "allocated" => {
                let quantities = self.quantities(step)?;
                self.sorter.allocated(self.client(step)?, &quantities);
            }
            "unallocated" => {
                let quantities = self.quantities(step)?;
                self.sorter.unallocated(self.client(step)?, &quantities);
            }
            "expect_sort" => {
                let expected: Vec<String> =
                    list(step, "order").iter().filter_map(|client| client.as_str().map(str::to_owned)).collect();
                let order = self.sorter.order();
                let got: Vec<String> = order.iter().map(|number| self.clients[*number as usize].clone()).collect();
                if got != expected {
                    return Err(Failure::Different { expected: expected.join(" "), got: got.join(" ") });
                }
            }
            other => return Err(Failure::Malformed(format!("unknown op `{other}`"))),
        }
        Ok(())
    }
}

struct AllocatorReplay {
    allocator: Allocator,
    now: Duration,
    /// Since the last `expect`.
    made: Vec<Allocation>,
    /// In the last `expect`.
    expected: Vec<Allocation>,
}

impl AllocatorReplay {
    fn new(options: &Value) -> Self {
        let mut given = Options { excluded: texts(options, "exclude"), ..Options::default() };
        let minimum: Vec<BTreeMap<String, Milli>> =
            list(options, "min_allocatable").iter().filter_map(|one| amounts(Some(one)).ok()).collect();
        if !minimum.is_empty() {
            given.min_allocatable = minimum;
        }
        Self { allocator: Allocator::new(given), now: Duration::ZERO, made: Vec::new(), expected: Vec::new() }
    }

    fn run(&mut self) {
        let made = self.allocator.run(self.now);
        self.made.extend(made);
    }

    fn add_framework(&mut self, step: &Value) -> Result<(), Failure> {
        let capabilities = texts(step, "capabilities");
        let subscription = Subscription {
            roles: texts(step, "roles"),
            suppressed: texts(step, "suppressed_roles"),
            abilities: Abilities {
                gpus: capabilities.contains("GPU_RESOURCES"),
                revocable: capabilities.contains("REVOCABLE_RESOURCES"),
                shared: capabilities.contains("SHARED_RESOURCES"),
                refinement: capabilities.contains("RESERVATION_REFINEMENT"),
                region_aware: capabilities.contains("REGION_AWARE"),
                multi_role: true,
            },
            ..Subscription::default()
        };
        self.allocator.set_framework(&need(step, "id")?.into(), &subscription, Activity::Active);
        self.run();
        Ok(())
    }

    fn add_agent(&mut self, step: &Value) -> Result<(), Failure> {
        let id = need(step, "id")?.into();
        self.allocator.considered.clear();
        self.allocator.add_agent(&id, &need_resources(step, "resources")?, AgentFacts::default(), Activity::Active);
        for used in list(step, "used") {
            let (framework, role) = (need(&used, "framework")?.into(), need(&used, "role")?);
            self.allocator.charge(&framework, &role, &id, &need_resources(&used, "resources")?);
        }
        self.run();
        Ok(())
    }

    fn recover(&mut self, step: &Value) -> Result<(), Failure> {
        let (framework, agent) = (need(step, "framework")?.into(), need(step, "agent")?.into());
        let (role, resources) = (need(step, "role")?, need_resources(step, "resources")?);
        let filter = step.get("filter").is_some_and(|filter| *filter != Value::Bool(false) && !filter.is_null());
        if filter {
            self.allocator.refuse(&framework, &role, &agent, &resources, FILTER, self.now);
        }
        self.allocator.recover(&framework, &role, &agent, &resources, Consider::Later);
        Ok(())
    }

    fn expect(&mut self, step: &Value) -> Result<(), Failure> {
        let made = std::mem::take(&mut self.made);
        self.expected.clone_from(&made);
        if let Some(totals) = step.get("totals_by_framework").and_then(Value::as_object) {
            let mut got: BTreeMap<&str, Resources> = BTreeMap::new();
            for allocation in &made {
                got.entry(allocation.framework.as_str()).or_default().add_all(&allocation.resources);
            }
            for (framework, total) in totals {
                let total = match total.as_str() {
                    Some(text) => resources(text)?,
                    None => {
                        amounts(Some(total))?.iter().map(|(name, amount)| Resource::scalar(name, *amount)).collect()
                    }
                };
                let mine = got.remove(framework.as_str()).unwrap_or_default();
                if !same(&mine, &total) {
                    let (expected, got) = (format!("{framework} {total}"), format!("{framework} {mine}"));
                    return Err(Failure::Different { expected, got });
                }
            }
            return match got.pop_first() {
                Some((framework, mine)) => Err(Failure::Different {
                    expected: format!("{framework} nothing"),
                    got: format!("{framework} {mine}"),
                }),
                None => Ok(()),
            };
        }
        let mut rest = made.clone();
        let mut missing = Vec::new();
        for offer in list(step, "offers") {
            let (framework, role, agent) = (need(&offer, "framework")?, need(&offer, "role")?, need(&offer, "agent")?);
            let wanted = need_resources(&offer, "resources")?;
            let found = rest.iter().position(|made| {
                made.framework.as_str() == framework
                    && made.role == role
                    && made.agent.as_str() == agent
                    && same(&made.resources, &wanted)
            });
            match found {
                Some(index) => drop(rest.swap_remove(index)),
                None => missing.push(format!("{framework} {role} {agent} {wanted}")),
            }
        }
        if missing.is_empty() && rest.is_empty() {
            return Ok(());
        }
        let show = |made: &Allocation| format!("{} {} {} {}", made.framework, made.role, made.agent, made.resources);
        let got = rest.iter().map(show).collect::<Vec<_>>().join(", ");
        let or_nothing = |text: String| if text.is_empty() { "nothing else".to_owned() } else { text };
        Err(Failure::Different { expected: or_nothing(missing.join(", ")), got: or_nothing(got) })
    }
}

fn same(a: &Resources, b: &Resources) -> bool {
    a.contains(b) && b.contains(a)
}

impl Replay for AllocatorReplay {
    fn step(&mut self, step: &Value) -> Result<(), Failure> {
        match need(step, "op")?.as_str() {
            "add_agent" => self.add_agent(step)?,
            "remove_agent" => self.allocator.remove_agent(&need(step, "id")?.into()),
            "add_framework" => self.add_framework(step)?,
            "remove_framework" => self.allocator.remove_framework(&need(step, "id")?.into()),
            "set_quota" => {
                let quota =
                    Quota { guarantees: amounts(step.get("guarantees"))?, limits: amounts(step.get("limits"))? };
                self.allocator.update_quota(&need(step, "role")?, &quota);
            }
            "set_weight" => {
                let path = text_of(step, "role").or_else(|| text_of(step, "path"));
                let path = path.ok_or_else(|| Failure::Malformed(format!("no text `role` in {step}")))?;
                self.allocator.update_weight(&path, step.get("weight").and_then(Value::as_f64).unwrap_or(1.0));
            }
            "suppress" => self.allocator.suppress(&need(step, "framework")?.into(), &texts(step, "roles")),
            "revive" => {
                self.allocator.revive(&need(step, "framework")?.into(), &texts(step, "roles"));
                self.run();
            }
            "recover" => self.recover(step)?,
            "recover_all" => {
                for Allocation { framework, role, agent, resources } in std::mem::take(&mut self.expected) {
                    self.allocator.recover(&framework, &role, &agent, &resources, Consider::Later);
                }
            }
            "allocate" => {
                self.allocator.consider_all();
                self.run();
            }
            "expire_filters" => {
                self.now += FILTER;
                self.allocator.expire(self.now);
                self.allocator.considered.clear();
            }
            "expect" => self.expect(step)?,
            other => return Err(Failure::Malformed(format!("unknown op `{other}`"))),
        }
        if self.allocator.is_consistent() {
            return Ok(());
        }
        Err(Failure::Different { expected: "sums that add up".to_owned(), got: "others".to_owned() })
    }
}
