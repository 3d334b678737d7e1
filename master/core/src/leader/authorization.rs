//! May a framework do what its ACCEPT asks for? The lists speak of its principal.

use api::v1::{ExecutorInfo, Format, Resource as WireResource, TaskInfo, resources_to_wire};
use api::{Resource, Resources};
use serde_json::json;

use super::Leader;
use crate::acl::Action;
use crate::operation::{ResourceOperation, volume};
use crate::state::Framework;
use crate::validate::{host_paths, privilege, references};

impl Leader {
    /// May it run the task as the user it names? `executor` is the group's.
    ///
    /// # Errors
    /// What it may not, in Mesos's words.
    pub(super) fn may_launch(
        &self,
        framework: &Framework,
        task: &TaskInfo,
        executor: Option<&ExecutorInfo>,
    ) -> Result<(), String> {
        let user = user_of(task, executor).unwrap_or(&framework.info.user);
        let principal = framework.info.principal.as_deref();
        let acls = &self.config.acls;
        let (id, of) = (&task.task_id, &framework.id);
        if !acls.allows(principal, Action::RunTask, Some(user)) {
            return Err(format!("launch task {id} of framework {of} under user '{user}'"));
        }
        if let Some(what) = privilege(task, executor)
            && !acls.allows_expressly(principal, Action::RunPrivilegedTask, Some(user))
        {
            let list = Action::RunPrivilegedTask.list();
            return Err(format!("launch task {id} of framework {of} with {what}: a rule of {list} must allow it"));
        }
        for path in host_paths(task, executor) {
            // One that climbs could be below an allowed one by name only.
            let climbs = path.split('/').any(|part| part == "..");
            if climbs || !acls.allows(principal, Action::MountHostPath, Some(path)) {
                return Err(format!("launch task {id} of framework {of} with the node's path '{path}'"));
            }
        }
        for name in references(task, executor) {
            if !acls.allows(principal, Action::UseSecret, Some(name)) {
                return Err(format!("launch task {id} of framework {of} with the secret '{name}'"));
            }
        }
        Ok(())
    }

    /// May it do this to the resources?
    ///
    /// # Errors
    /// Mesos's text.
    pub(super) fn authorized(
        &self,
        framework: &Framework,
        operation: &ResourceOperation,
        role: &str,
    ) -> Result<(), String> {
        let principal = framework.info.principal.as_deref();
        let Some((_, name, object)) = objects(operation)
            .into_iter()
            .find(|(action, _, object)| !self.config.acls.allows(principal, *action, object.name.as_deref()))
        else {
            return Ok(());
        };
        let what = object.resource.map_or_else(
            || "ANY object".to_owned(),
            |resource| {
                let format = Format { refined: true, allocation_role: Some(role.to_owned()) };
                let one: Resources = [resource].into_iter().collect();
                let wire: Vec<WireResource> = resources_to_wire(&one, &format);
                format!("object {}", json!({ "value": object.name, "resource": wire.first() }))
            },
        );
        let principal = principal.unwrap_or_default();
        Err(format!("Principal '{principal}' no authorized to perform action {name} on {what}"))
    }
}

/// What the lists are asked about.
#[derive(Debug, Default)]
struct Object {
    /// A role, or the principal that made it; nothing is anything.
    name: Option<String>,
    resource: Option<Resource>,
}

impl Object {
    fn role(resource: &Resource) -> Self {
        Self { name: Some(resource.role().to_owned()), resource: Some(resource.clone()) }
    }

    fn made_by(principal: Option<&str>, resource: &Resource) -> Self {
        principal.map_or_else(Self::default, |principal| Self {
            name: Some(principal.to_owned()),
            resource: Some(resource.clone()),
        })
    }
}

/// Everything that must be allowed.
fn objects(operation: &ResourceOperation) -> Vec<(Action, &'static str, Object)> {
    let each = |resources: &Resources, action, name, object: fn(&Resource) -> Object| {
        resources.iter().map(|resource| (action, name, object(resource))).collect()
    };
    match operation {
        ResourceOperation::Reserve { resources, .. } => {
            each(resources, Action::ReserveResources, "RESERVE_RESOURCES", Object::role)
        }
        ResourceOperation::Unreserve { resources } => {
            each(resources, Action::UnreserveResources, "UNRESERVE_RESOURCES", |resource| {
                let top = resource.reservations.last();
                Object::made_by(top.and_then(|reservation| reservation.principal.as_deref()), resource)
            })
        }
        ResourceOperation::Create { volumes } => each(volumes, Action::CreateVolume, "CREATE_VOLUME", Object::role),
        ResourceOperation::Destroy { volumes } => each(volumes, Action::DestroyVolume, "DESTROY_VOLUME", |resource| {
            Object::made_by(volume::principal(resource), resource)
        }),
        ResourceOperation::Grow { volume, .. } | ResourceOperation::Shrink { volume, .. } => {
            vec![(Action::ResizeVolume, "RESIZE_VOLUME", Object::role(volume))]
        }
    }
}

/// The command's user, or the executor's command's.
fn user_of<'a>(task: &'a TaskInfo, executor: Option<&'a ExecutorInfo>) -> Option<&'a String> {
    let own = task.command.as_ref().and_then(|command| command.user.as_ref());
    let executor = task.executor.as_deref().or(executor).and_then(|executor| executor.command.as_ref());
    own.or_else(|| executor.and_then(|command| command.user.as_ref()))
}
