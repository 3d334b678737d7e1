//! What agents say, in the master's words, or what is wrong with it.

use std::collections::BTreeMap;

use api::link;
use api::v1::{AgentCapabilities, attributes_from_wire, resources_from_wire};
use api::{Attribute, Fact, NodeName, Resources, TaskState};
use master_core::{AgentMessage, Registration, ReportedExecutor, ReportedTask, Return};

/// What is known of a machine: the largest server's fits ten times. It goes into the replicated log.
const LONGEST_INVENTORY: usize = 1 << 20;
/// No agent of ours sends more facts; they go into the replicated log.
const MOST_FACTS: usize = 512;
/// A fact's name and evidence.
const LONGEST_FACT: usize = 4096;

/// A registration in the master's words, or what is wrong with it, for a person.
pub(super) fn read_registration(node: NodeName, register: link::Register) -> Result<Registration, String> {
    check_protocol(register.protocol)?;
    check_inventory(&register.inventory_json)?;
    let Known { resources, attributes, facts } = read_capacity(register.capacity.unwrap_or_default())?;
    let tasks = register.tasks.into_iter().map(read_task_report).collect::<Result<_, _>>()?;
    let executors = register.executors.into_iter().map(read_executor_report).collect::<Result<_, _>>()?;
    Ok(Registration {
        node,
        boot_id: register.boot_id,
        agent: (!register.agent_id.is_empty()).then(|| register.agent_id.into()),
        hostname: register.hostname,
        address: register.address,
        version: register.version,
        capabilities: AgentCapabilities::from_wire(&register.capabilities),
        kernel: register.kernel,
        resources,
        attributes,
        facts,
        inventory_json: register.inventory_json,
        tasks,
        executors,
        edition: register.edition,
    })
}

/// As [`read_registration`], of an agent that was here before.
pub(super) fn read_return(node: NodeName, back: link::Return) -> Result<Return, String> {
    check_protocol(back.protocol)?;
    let tasks = back.tasks.try_into().map_err(|_| "its digest of tasks has another length".to_owned())?;
    Ok(Return { node, boot_id: back.boot_id, agent: back.agent_id.into(), edition: back.edition, tasks })
}

fn check_protocol(protocol: u32) -> Result<(), String> {
    if protocol == link::PROTOCOL {
        return Ok(());
    }
    let ours = link::PROTOCOL;
    Err(format!("the agent speaks protocol {protocol}, this master {ours}: update the older one"))
}

/// It is kept as text and given to whoever asks: what it is has to be known before.
fn check_inventory(json: &str) -> Result<(), String> {
    if json.len() > LONGEST_INVENTORY {
        return Err(format!("its inventory has {} bytes: at most {LONGEST_INVENTORY} are taken", json.len()));
    }
    if json.is_empty() {
        return Ok(());
    }
    let checked: Result<BTreeMap<String, serde::de::IgnoredAny>, _> = serde_json::from_str(json);
    checked.map(drop).map_err(|error| format!("its inventory is no JSON object: {error}"))
}

fn read_task_report(report: link::TaskReport) -> Result<ReportedTask, String> {
    let state = TaskState::from_name(&report.state).ok_or_else(|| format!("'{}' is no task state", report.state))?;
    Ok(ReportedTask {
        framework: report.framework_id.into(),
        task: report.task_id.into(),
        container: report.container_id.into(),
        state,
    })
}

fn read_executor_report(report: link::ExecutorReport) -> Result<ReportedExecutor, String> {
    let (framework, container) = (report.framework_id.into(), report.container_id.into());
    let info = Box::new(report.info.ok_or("it reports an executor that is none")?);
    resources_from_wire(&info.resources).map_err(|error| format!("an executor's resources are invalid: {error}"))?;
    Ok(ReportedExecutor { framework, container, info })
}

/// What an agent offers and knows of its machine.
struct Known {
    resources: Resources,
    attributes: Vec<Attribute>,
    facts: Vec<Fact>,
}

fn read_capacity(capacity: link::Capacity) -> Result<Known, String> {
    let resources =
        resources_from_wire(&capacity.resources).map_err(|error| format!("its resources are invalid: {error}"))?;
    let facts = link::facts_from_wire(capacity.facts);
    if facts.len() > MOST_FACTS
        || facts.iter().any(|fact| fact.attribute.name.len() + fact.evidence.len() > LONGEST_FACT)
    {
        return Err(format!("it sends more than {MOST_FACTS} facts, or longer ones than {LONGEST_FACT} bytes"));
    }
    Ok(Known { resources, attributes: attributes_from_wire(&capacity.attributes), facts })
}

pub(super) fn read_change(mut capacity: link::Capacity) -> Result<AgentMessage, String> {
    let json = std::mem::take(&mut capacity.inventory_json);
    let edition = capacity.edition;
    check_inventory(&json)?;
    let Known { resources, attributes, facts } = read_capacity(capacity)?;
    let inventory_json = (!json.is_empty()).then_some(json);
    Ok(AgentMessage::Capacity { resources, attributes, facts, inventory_json, edition })
}

pub(super) fn read_update(update: link::StatusUpdate) -> Result<AgentMessage, String> {
    let status = update.status.filter(|status| !status.task_id.as_str().is_empty());
    let status = status.ok_or("a status update names no task")?;
    let latest = TaskState::from_name(&update.latest_state)
        .ok_or_else(|| format!("'{}' is no task state", update.latest_state))?;
    Ok(AgentMessage::Update { framework: update.framework_id.into(), status: Box::new(status), latest })
}

#[cfg(test)]
mod tests {
    use api::v1::{Format, TaskStatus, attributes_to_wire, resources_to_wire};

    use super::*;

    fn register() -> link::Register {
        link::Register {
            protocol: link::PROTOCOL,
            boot_id: "b".to_owned(),
            capacity: Some(link::Capacity {
                resources: resources_to_wire(&Resources::parse("cpus:2").unwrap(), &Format::default()),
                attributes: attributes_to_wire(&Attribute::parse_list("rack:r1").unwrap()),
                ..link::Capacity::default()
            }),
            ..link::Register::default()
        }
    }

    #[test]
    fn a_registration_is_read_or_refused_with_a_reason() {
        let good = read_registration("n".into(), register()).unwrap();
        assert_eq!(good.resources.scalar("cpus").units(), 2.0);
        assert_eq!((good.agent, good.attributes.len()), (None, 1));
        let newer = link::Register { protocol: 9, ..register() };
        assert!(read_registration("n".into(), newer).unwrap_err().contains("protocol 9"));
        let broken = link::Capacity { resources: vec![api::v1::Resource::default()], ..link::Capacity::default() };
        let broken = link::Register { capacity: Some(broken), ..register() };
        assert!(read_registration("n".into(), broken).unwrap_err().contains("resources"));
        let inventory = |json: String| {
            read_registration("n".into(), link::Register { inventory_json: json, ..register() }).map(drop)
        };
        assert!(inventory(r#"{"cpu":{}}"#.to_owned()).is_ok());
        assert!(inventory("[1]".to_owned()).unwrap_err().contains("inventory"));
        assert!(inventory("<script>".to_owned()).unwrap_err().contains("inventory"));
        let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(LONGEST_INVENTORY));
        assert!(inventory(long).unwrap_err().contains("at most 1048576"));
    }

    #[test]
    fn updates_are_read_or_refused() {
        let update = |status: Option<TaskStatus>, latest: &str| {
            read_update(link::StatusUpdate { framework_id: "f".to_owned(), status, latest_state: latest.to_owned() })
        };
        let good = Some(TaskStatus::new("t".into(), TaskState::Running));
        assert!(update(good.clone(), "TASK_RUNNING").is_ok());
        assert!(update(good, "TASK_BORED").is_err());
        assert!(update(None, "TASK_RUNNING").is_err());
        assert!(update(Some(TaskStatus::default()), "TASK_RUNNING").is_err());
    }
}
