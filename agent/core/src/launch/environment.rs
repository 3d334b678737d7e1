//! What a task finds in its environment (mesos-api 2.4): only this, nothing of the agent's own.

use api::FrameworkId;
use api::v1::{FrameworkInfo, TaskInfo};

use super::{LaunchError, Site};

/// Where programs are when the task does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The port a Mesos agent has; tasks read it together with the address.
const AGENT_PORT: u16 = 5051;

pub(super) fn variables(
    site: &Site,
    framework: &FrameworkId,
    task: &TaskInfo,
    framework_info: &FrameworkInfo,
    of_executor: &[(String, String)],
    (sandbox, inside): (&str, &str),
) -> Result<Vec<(String, String)>, LaunchError> {
    let task_id = task.task_id.as_str();
    let address = site.address.as_deref().unwrap_or("127.0.0.1");
    let role = task
        .resources
        .iter()
        .find_map(|resource| resource.allocation_info.as_ref()?.role.clone())
        .or_else(|| framework_info.effective_roles().into_iter().next());
    let mut variables: Vec<(String, String)> = [
        ("MESOS_FRAMEWORK_ID", framework.as_str()),
        ("MESOS_EXECUTOR_ID", task_id),
        ("MESOS_TASK_ID", task_id),
        ("MESOS_SLAVE_ID", site.agent.as_str()),
        ("MESOS_DIRECTORY", sandbox),
        ("MESOS_SANDBOX", inside),
        ("MESOS_CHECKPOINT", "1"),
        ("MESOS_HTTP_COMMAND_EXECUTOR", "0"),
        ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"),
        ("PATH", PATH),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    variables.push(("MESOS_AGENT_ENDPOINT".to_owned(), format!("{address}:{AGENT_PORT}")));
    variables.push(("MESOS_SLAVE_PID".to_owned(), format!("slave(1)@{address}:{AGENT_PORT}")));
    if let Some(role) = role {
        variables.push(("MESOS_ALLOCATION_ROLE".to_owned(), role));
    }
    for (name, value) in of_executor {
        variables.retain(|(known, _)| known != name);
        if !value.is_empty() {
            variables.push((name.clone(), value.clone()));
        }
    }
    let own =
        task.command.iter().flat_map(|command| &command.environment).flat_map(|environment| &environment.variables);
    for variable in own {
        let value = variable.value.clone().unwrap_or_default();
        if variable.name.contains(['\0', '=']) || value.contains('\0') {
            return Err(LaunchError::Nul("an environment variable"));
        }
        // The task's own word is the last one.
        match variables.iter_mut().find(|(name, _)| *name == variable.name) {
            Some(existing) => existing.1 = value,
            None => variables.push((variable.name.clone(), value)),
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{site, task};
    use super::*;

    #[test]
    fn a_tasks_own_variables_win() {
        let task = task(
            r#"{"task_id":{"value":"t1"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"dev"}}],
                "command":{"value":"x","environment":{"variables":[{"name":"PATH","value":"/opt"},{"name":"A","value":"1"}]}}}"#,
        );
        let variables =
            variables(&site(), &"f".into(), &task, &FrameworkInfo::default(), &[], ("/out", "/in")).unwrap();
        let get = |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(get("PATH"), Some("/opt"));
        assert_eq!(get("A"), Some("1"));
        assert_eq!(get("MESOS_EXECUTOR_ID"), Some("t1"));
        assert_eq!((get("MESOS_SANDBOX"), get("MESOS_DIRECTORY")), (Some("/in"), Some("/out")));
        assert_eq!(get("MESOS_AGENT_ENDPOINT"), Some("10.0.0.11:5051"));
        assert_eq!(get("MESOS_ALLOCATION_ROLE"), Some("dev"));
    }
}
