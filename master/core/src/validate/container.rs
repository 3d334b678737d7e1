//! Commands and containers, whether a task's, an executor's or a check's.

use api::v1::environment::variable;
use api::v1::{CommandInfo, ContainerInfo, Secret, Volume, container_info, secret, volume};

/// Its environment is all that is looked at.
pub(super) fn command(command: &CommandInfo) -> Result<(), String> {
    let variables = command.environment.as_ref().map(|environment| environment.variables.as_slice());
    for variable in variables.unwrap_or_default() {
        let wrong = |why: &str| Err(format!("Environment variable '{}' {why}", variable.name));
        match variable.r#type() {
            variable::Type::Secret => {
                let Some(secret) = &variable.secret else { return wrong("of type 'SECRET' must have a secret set") };
                if variable.value.is_some() {
                    return wrong("of type 'SECRET' must not have a value set");
                }
                if let Err(error) = self::secret(secret) {
                    return wrong(&format!("specifies an invalid secret: {error}"));
                }
                if secret.value.as_ref().is_some_and(|value| value.data.contains(&0)) {
                    return wrong("specifies a secret containing null bytes, which is not allowed in the environment");
                }
            }
            variable::Type::Value => {
                if variable.value.is_none() {
                    return wrong("of type 'VALUE' must have a value set");
                }
                if variable.secret.is_some() {
                    return wrong("of type 'VALUE' must not have a secret set");
                }
            }
            variable::Type::Unknown => return Err("Environment variable of type 'UNKNOWN' is not allowed".to_owned()),
        }
    }
    Ok(())
}

fn secret(secret: &Secret) -> Result<(), String> {
    match secret.r#type() {
        secret::Type::Reference => match (&secret.reference, &secret.value) {
            (None, _) => Err("Secret of type REFERENCE must have the 'reference' field set".to_owned()),
            (Some(reference), Some(_)) => {
                let name = &reference.name;
                Err(format!("Secret '{name}' of type REFERENCE must not have the 'value' field set"))
            }
            (Some(_), None) => Ok(()),
        },
        secret::Type::Value if secret.value.is_none() => {
            Err("Secret of type VALUE must have the 'value' field set".to_owned())
        }
        secret::Type::Value if secret.reference.is_some() => {
            Err("Secret of type VALUE must not have the 'reference' field set".to_owned())
        }
        secret::Type::Value | secret::Type::Unknown => Ok(()),
    }
}

/// Its volumes, and what makes it one of its type.
pub(super) fn container(container: &ContainerInfo) -> Result<(), String> {
    for volume in &container.volumes {
        self::volume(volume).map_err(|error| format!("Invalid volume: {error}"))?;
    }
    if container.r#type() != container_info::Type::Docker {
        return Ok(());
    }
    let Some(docker) = &container.docker else {
        return Err("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo".to_owned());
    };
    if docker.parameters.iter().any(|parameter| parameter.key == "name") {
        return Err("Parameter in DockerInfo must not be 'name'".to_owned());
    }
    Ok(())
}

fn volume(volume: &Volume) -> Result<(), String> {
    let sources = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
    if sources.into_iter().filter(|set| *set).count() != 1 {
        return Err("Only one of them should be set: 'host_path', 'image' and 'source'".to_owned());
    }
    let Some(source) = &volume.source else { return Ok(()) };
    let (set, field, kind) = match source.r#type() {
        volume::source::Type::DockerVolume => (source.docker_volume.is_some(), "docker_volume", "DOCKER_VOLUME volume"),
        volume::source::Type::HostPath => (source.host_path.is_some(), "host_path", "HOST_PATH volume"),
        volume::source::Type::SandboxPath => (source.sandbox_path.is_some(), "sandbox_path", "SANDBOX_PATH volume"),
        volume::source::Type::Secret => (source.secret.is_some(), "secret", "SECRET volume"),
        volume::source::Type::CsiVolume => match &source.csi_volume {
            None => (false, "csi_volume", "CSI volume"),
            Some(csi) => (csi.static_provisioning.is_some(), "csi_volume.static_provisioning", "CSI volume"),
        },
        volume::source::Type::Unknown => return Err("'source.type' is unknown".to_owned()),
    };
    if set { Ok(()) } else { Err(format!("'source.{field}' is not set for {kind}")) }
}

/// Is `share_cgroups` set to this?
pub(super) fn shares_cgroups(container: Option<&ContainerInfo>) -> Option<bool> {
    container.and_then(|container| container.linux_info.as_ref()).and_then(|linux| linux.share_cgroups)
}
