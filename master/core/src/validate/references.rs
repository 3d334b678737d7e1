//! Names that tasks give instead of secrets.

use std::collections::BTreeSet;

use api::v1::{CommandInfo, ContainerInfo, ExecutorInfo, Secret, TaskInfo, secret};

/// Every secret the task names, in files, variables and the credentials of its images; its executor's, too.
#[must_use]
pub fn references<'a>(task: &'a TaskInfo, executor: Option<&'a ExecutorInfo>) -> BTreeSet<&'a str> {
    let executor = task.executor.as_deref().or(executor);
    let commands = [task.command.as_ref(), executor.and_then(|executor| executor.command.as_deref())];
    let containers = [task.container.as_deref(), executor.and_then(|executor| executor.container.as_deref())];
    let of_commands = commands.into_iter().flatten().flat_map(of_command);
    of_commands.chain(containers.into_iter().flatten().flat_map(of_container)).filter_map(name).collect()
}

fn of_command(command: &CommandInfo) -> impl Iterator<Item = &Secret> {
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    variables.filter_map(|variable| variable.secret.as_ref())
}

fn of_container(container: &ContainerInfo) -> impl Iterator<Item = &Secret> {
    let files = container.volumes.iter().filter_map(|volume| volume.source.as_ref()?.secret.as_ref());
    let root = container.mesos.iter().filter_map(|mesos| mesos.image.as_ref());
    let images = root.chain(container.volumes.iter().filter_map(|volume| volume.image.as_ref()));
    files.chain(images.filter_map(|image| image.docker.as_ref()?.config.as_ref()))
}

fn name(secret: &Secret) -> Option<&str> {
    let reference = secret.reference.as_ref().filter(|_| secret.r#type() == secret::Type::Reference)?;
    Some(&reference.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_secrets_are() {
        let of = |name: &str| format!(r#"{{"type":"REFERENCE","reference":{{"name":"{name}"}}}}"#);
        let (file, variable, image, executor) = (of("file"), of("variable"), of("image"), of("executor"));
        let text = format!(
            r#"{{"command":{{"environment":{{"variables":[{{"name":"A","type":"SECRET","secret":{variable}}},
                    {{"name":"B","value":"plain"}}]}}}},
                "container":{{"type":"MESOS","mesos":{{"image":{{"type":"DOCKER","docker":{{"name":"a","config":{image}}}}}}},
                    "volumes":[{{"mode":"RO","container_path":"f","source":{{"type":"SECRET","secret":{file}}}}},
                    {{"mode":"RO","container_path":"v","source":{{"type":"SECRET","secret":{{"type":"VALUE","value":{{"data":"cHc="}}}}}}}}]}},
                "executor":{{"executor_id":{{"value":"e"}},
                    "command":{{"environment":{{"variables":[{{"name":"A","type":"SECRET","secret":{executor}}}]}}}}}}}}"#
        );
        let task: TaskInfo = serde_json::from_str(&text).unwrap();
        let names: Vec<&str> = references(&task, None).into_iter().collect();
        assert_eq!(names, ["executor", "file", "image", "variable"]);
    }
}
