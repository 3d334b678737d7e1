//! What this version cannot run, said in words before anything is made.

use api::mesos::TaskInfo;

use super::LaunchError;

pub(super) fn check(task: &TaskInfo) -> Result<(), LaunchError> {
    let no = |what: String| Err(LaunchError::Unsupported(what));
    if let Some(executor) = &task.executor {
        return no(format!("custom executors (executor '{}')", executor.executor_id.value));
    }
    let Some(command) = &task.command else { return Err(LaunchError::NoCommand) };
    if let Some(uri) = command.uris.first() {
        return no(format!("tasks with URIs to fetch ('{}')", uri.value));
    }
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    if let Some(secret) = variables.into_iter().find(|variable| variable.kind.as_deref() == Some("SECRET")) {
        return no(format!("tasks with secrets in the environment ('{}')", secret.name));
    }
    let Some(container) = &task.container else { return Ok(()) };
    if container.get("type").and_then(|kind| kind.as_str()) == Some("DOCKER") || container.get("docker").is_some() {
        let image = container.pointer("/docker/image").and_then(|image| image.as_str()).unwrap_or("unnamed");
        return no(format!("container images (Docker image '{image}')"));
    }
    if let Some(image) = container.pointer("/mesos/image") {
        let name = image.pointer("/docker/name").and_then(|name| name.as_str()).unwrap_or("unnamed");
        return no(format!("container images ('{name}')"));
    }
    for field in ["volumes", "network_infos", "rlimit_info", "tty_info", "linux_info"] {
        let asked = container.get(field).is_some_and(|value| match value {
            serde_json::Value::Array(list) => !list.is_empty(),
            serde_json::Value::Object(map) => !map.is_empty(),
            serde_json::Value::Null => false,
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_) => true,
        });
        if asked {
            return no(format!("containers with {field}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::task;
    use super::*;

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, words) in [
            (r#"{"executor":{"executor_id":{"value":"mine"}}}"#, "custom executors (executor 'mine')"),
            (r#"{"command":{"value":"x","uris":[{"value":"http://a/b.tgz"}]}}"#, "http://a/b.tgz"),
            (r#"{"command":{"value":"x"},"container":{"type":"DOCKER","docker":{"image":"nginx"}}}"#, "'nginx'"),
            (
                r#"{"command":{"value":"x"},"container":{"type":"MESOS","mesos":{"image":{"docker":{"name":"redis"}}}}}"#,
                "'redis'",
            ),
            (r#"{"command":{"value":"x"},"container":{"type":"MESOS","volumes":[{"host_path":"/"}]}}"#, "volumes"),
            (r#"{"command":{"value":"x","environment":{"variables":[{"name":"P","type":"SECRET"}]}}}"#, "secrets"),
        ] {
            let error = check(&task(text)).unwrap_err().to_string();
            assert!(error.starts_with("this version cannot run ") && error.contains(words), "{error}");
        }
        assert_eq!(check(&task("{}")), Err(LaunchError::NoCommand));
        assert_eq!(check(&task(r#"{"command":{"value":"x"},"container":{"type":"MESOS","volumes":[]}}"#)), Ok(()));
    }
}
