//! What a task asks for beyond the confinement every task gets: it needs a rule that says so.

use api::v1::capability_info::Capability;
use api::v1::{CapabilityInfo, ContainerInfo, ExecutorInfo, TaskInfo, linux_info, volume};

/// What any task may have: nothing in it reaches beyond the container.
const FREE: [Capability; 10] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// The containers of a task.
fn containers<'a>(
    task: &'a TaskInfo,
    executor: Option<&'a ExecutorInfo>,
) -> impl Iterator<Item = &'a ContainerInfo> + Clone {
    let executors = task.executor.as_deref().or(executor).and_then(|executor| executor.container.as_deref());
    task.container.as_deref().into_iter().chain(executors)
}

/// The first thing that takes the right to run privileged tasks, in words.
pub(crate) fn privilege(task: &TaskInfo, executor: Option<&ExecutorInfo>) -> Option<String> {
    containers(task, executor).find_map(of_container).or_else(|| devices(task))
}

/// Devices of the node are asked for by a label; which of them there are to be had, the node says.
fn devices(task: &TaskInfo) -> Option<String> {
    let mut labels = task.labels.iter().flat_map(|labels| &labels.labels);
    let label = labels.find(|label| label.key == "mesolith.devices")?;
    Some(format!("the node's devices {}", label.value()))
}

/// Every absolute path of the node the task wants to see.
pub(crate) fn host_paths<'a>(task: &'a TaskInfo, executor: Option<&'a ExecutorInfo>) -> Vec<&'a str> {
    let of = |container: &'a ContainerInfo| {
        let volumes = container.volumes.iter().filter_map(|volume| {
            let source = volume.source.as_ref().filter(|source| source.r#type() == volume::source::Type::HostPath);
            let path = source.and_then(|source| source.host_path.as_ref()).map(|host| host.path.as_str());
            path.or_else(|| volume.host_path.as_deref().filter(|path| path.starts_with('/')))
        });
        let parameters = container.docker.iter().flat_map(|docker| &docker.parameters);
        let bound = parameters.filter(|parameter| matches!(parameter.key.as_str(), "volume" | "v"));
        volumes.chain(bound.filter_map(|parameter| parameter.value.split(':').next())).collect::<Vec<_>>()
    };
    containers(task, executor).flat_map(of).collect()
}

fn of_container(container: &ContainerInfo) -> Option<String> {
    if let Some(docker) = &container.docker {
        if docker.privileged() {
            return Some("a privileged container".to_owned());
        }
        for parameter in &docker.parameters {
            match parameter.key.as_str() {
                "privileged" if parameter.value != "false" => return Some("a privileged container".to_owned()),
                "cap-add" if !is_free(&parameter.value) => return Some(format!("capability {}", parameter.value)),
                "security-opt" => return Some(format!("the security option {}", parameter.value)),
                _ => {}
            }
        }
    }
    let linux = container.linux_info.as_ref()?;
    #[allow(deprecated)]
    let sets = [&linux.capability_info, &linux.effective_capabilities, &linux.bounding_capabilities];
    if let Some(capability) = sets.into_iter().flatten().find_map(not_free) {
        return Some(format!("capability {}", capability.as_str_name()));
    }
    if linux.seccomp.as_ref().is_some_and(|seccomp| seccomp.unconfined()) {
        return Some("no filter of system calls".to_owned());
    }
    if linux.ipc_mode() == linux_info::IpcMode::ShareParent {
        return Some("the node's IPC namespace".to_owned());
    }
    linux.share_pid_namespace().then(|| "the node's PID namespace".to_owned())
}

fn not_free(info: &CapabilityInfo) -> Option<Capability> {
    info.capabilities().find(|capability| !FREE.contains(capability))
}

/// `CAP_CHOWN` and `chown` are the same.
fn is_free(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    FREE.iter().any(|free| free.as_str_name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(container: &str) -> TaskInfo {
        serde_json::from_str(&format!(r#"{{"container":{container}}}"#)).unwrap()
    }

    #[test]
    fn what_reaches_beyond_the_container_is_found() {
        for (container, what) in [
            (r#"{"type":"MESOS"}"#, None),
            (r#"{"type":"DOCKER","docker":{"image":"a","privileged":true}}"#, Some("a privileged container")),
            (
                r#"{"type":"DOCKER","docker":{"image":"a","parameters":[{"key":"cap-add","value":"net_admin"}]}}"#,
                Some("capability net_admin"),
            ),
            (
                r#"{"type":"DOCKER","docker":{"image":"a","parameters":[{"key":"cap-add","value":"CAP_SYS_CHROOT"}]}}"#,
                None,
            ),
            (
                r#"{"type":"MESOS","linux_info":{"effective_capabilities":{"capabilities":["CHOWN","SYS_ADMIN"]}}}"#,
                Some("capability SYS_ADMIN"),
            ),
            (r#"{"type":"MESOS","linux_info":{"effective_capabilities":{"capabilities":["CHOWN"]}}}"#, None),
            (r#"{"type":"MESOS","linux_info":{"seccomp":{"unconfined":true}}}"#, Some("no filter of system calls")),
            (r#"{"type":"MESOS","linux_info":{"ipc_mode":"SHARE_PARENT"}}"#, Some("the node's IPC namespace")),
            (r#"{"type":"MESOS","linux_info":{"share_pid_namespace":true}}"#, Some("the node's PID namespace")),
        ] {
            assert_eq!(privilege(&task(container), None).as_deref(), what, "{container}");
        }
        let label = r#"{"labels":{"labels":[{"key":"mesolith.devices","value":"/dev/vdb"}]}}"#;
        assert_eq!(privilege(&serde_json::from_str(label).unwrap(), None).unwrap(), "the node's devices /dev/vdb");
    }

    #[test]
    fn paths_of_the_node_are_found_wherever_they_are_said() {
        let text = r#"{"type":"DOCKER","docker":{"image":"a","parameters":[{"key":"volume","value":"/three:/x:ro"}]},
            "volumes":[{"mode":"RW","container_path":"/a","host_path":"/one"},
                       {"mode":"RW","container_path":"/b","host_path":"below"},
                       {"mode":"RW","container_path":"/c","source":{"type":"HOST_PATH","host_path":{"path":"/two"}}}]}"#;
        assert_eq!(host_paths(&task(text), None), ["/one", "/two", "/three"]);
    }
}
