//! What the agent's v1 operator API answers that is a picture: GET_STATE and its parts.

use api::v1::agent::Response;
use api::v1::agent::response::{self, Type, get_containers, get_executors, get_frameworks};
use api::v1::{AgentInfo, Attribute as WireAttribute, Flag, Format, FrameworkInfo, Metric, Task, VersionInfo};
use api::v1::{ContainerId as WireContainerId, attributes_to_wire, resources_to_wire};

use super::access::Rights;
use super::documents::{of_running, user_of};
use super::picture::{Picture, Shown, ShownTask};
use crate::node::statistics::Running;

pub(super) fn answer(kind: Type) -> Response {
    Response { r#type: Some(kind.into()), ..Response::default() }
}

pub(super) fn flags(picture: &Picture) -> Response {
    let one = |(name, value): (&String, &String)| Flag { name: name.clone(), value: Some(value.clone()) };
    let flags = response::GetFlags { flags: picture.flags.iter().map(one).collect() };
    Response { get_flags: Some(flags), ..answer(Type::GetFlags) }
}

pub(super) fn version() -> Response {
    let version_info = VersionInfo { version: api::MESOS_VERSION.to_owned(), ..VersionInfo::default() };
    Response { get_version: Some(response::GetVersion { version_info }), ..answer(Type::GetVersion) }
}

pub(super) fn metrics(all: impl IntoIterator<Item = (String, f64)>) -> Response {
    let metrics = all.into_iter().map(|(name, value)| Metric { name, value: Some(value) }).collect();
    Response { get_metrics: Some(response::GetMetrics { metrics }), ..answer(Type::GetMetrics) }
}

pub(super) fn state(picture: &Picture, rights: &Rights) -> Response {
    let state = response::GetState {
        get_tasks: tasks(picture, rights).get_tasks,
        get_executors: executors(picture, rights).get_executors,
        get_frameworks: frameworks(picture, rights).get_frameworks,
    };
    Response { get_state: Some(state), ..answer(Type::GetState) }
}

pub(super) fn frameworks(picture: &Picture, rights: &Rights) -> Response {
    let live = seen_frameworks(&picture.executors, rights);
    let mut completed = seen_frameworks(&picture.completed, rights);
    completed.retain(|framework| !live.iter().any(|one| one.id == framework.id));
    let one = |framework_info: FrameworkInfo| get_frameworks::Framework { framework_info };
    let frameworks = response::GetFrameworks {
        frameworks: live.into_iter().map(one).collect(),
        completed_frameworks: completed.into_iter().map(one).collect(),
    };
    Response { get_frameworks: Some(frameworks), ..answer(Type::GetFrameworks) }
}

fn seen_frameworks(executors: &[Shown], rights: &Rights) -> Vec<FrameworkInfo> {
    let mut all: Vec<FrameworkInfo> = Vec::new();
    for shown in executors {
        let id = Some(shown.framework.clone());
        let seen = rights.may("view_frameworks", Some(&shown.framework_info.user));
        if seen && !all.iter().any(|one| one.id == id) {
            all.push(FrameworkInfo { id, ..shown.framework_info.as_ref().clone() });
        }
    }
    all
}

pub(super) fn executors(picture: &Picture, rights: &Rights) -> Response {
    let seen = |list: &[Shown]| -> Vec<get_executors::Executor> {
        let list = list.iter().filter(|shown| rights.may("view_executors", Some(shown.user())));
        list.map(|shown| get_executors::Executor { executor_info: shown.info.clone() }).collect()
    };
    let executors =
        response::GetExecutors { executors: seen(&picture.executors), completed_executors: seen(&picture.completed) };
    Response { get_executors: Some(executors), ..answer(Type::GetExecutors) }
}

pub(super) fn tasks(picture: &Picture, rights: &Rights) -> Response {
    let mut all = response::GetTasks::default();
    for shown in picture.all() {
        let sees = |task: &&ShownTask| rights.may("view_tasks", Some(&user_of(shown, &task.info)));
        all.launched_tasks.extend(shown.tasks.iter().filter(sees).map(|task| message(shown, task)));
        let over = shown.over.iter().filter(sees);
        let (completed, terminated): (Vec<_>, Vec<_>) = over.partition(|task| task.acknowledged);
        all.terminated_tasks.extend(terminated.into_iter().map(|task| message(shown, task)));
        all.completed_tasks.extend(completed.into_iter().map(|task| message(shown, task)));
        for info in &shown.queued {
            let queued = ShownTask {
                info: Box::new(info.clone()),
                state: api::TaskState::Staging,
                statuses: Vec::new(),
                acknowledged: true,
            };
            if sees(&&queued) {
                all.queued_tasks.push(message(shown, &queued));
            }
        }
    }
    Response { get_tasks: Some(all), ..answer(Type::GetTasks) }
}

fn message(shown: &Shown, task: &ShownTask) -> Task {
    let info = task.info.as_ref();
    let newest = task.statuses.last();
    Task {
        name: info.name.clone(),
        task_id: info.task_id.clone(),
        framework_id: shown.framework.clone(),
        executor_id: (!shown.is_command).then(|| shown.info.executor_id.clone()),
        agent_id: info.agent_id.clone(),
        state: task.state.into(),
        resources: info.resources.clone(),
        limits: info.limits.clone(),
        statuses: task.statuses.clone(),
        status_update_state: newest.map(|status| status.state),
        status_update_uuid: newest.and_then(|status| status.uuid.clone()),
        labels: info.labels.clone(),
        discovery: info.discovery.clone(),
        container: info.container.clone(),
        health_check: info.health_check.clone(),
        user: info.command.as_ref().and_then(|command| command.user.clone()),
        ..Task::default()
    }
}

pub(super) fn agent(picture: &Picture) -> Response {
    let attributes: Vec<WireAttribute> = attributes_to_wire(&picture.attributes);
    let agent_info = AgentInfo {
        hostname: picture.hostname.clone(),
        port: Some(picture.port.into()),
        resources: resources_to_wire(&picture.resources, &Format { refined: true, allocation_role: None }),
        attributes,
        id: Some(picture.agent.as_str().into()),
        ..AgentInfo::default()
    };
    let agent = response::GetAgent { agent_info: Some(agent_info), ..response::GetAgent::default() };
    Response { get_agent: Some(agent), ..answer(Type::GetAgent) }
}

pub(super) fn containers(
    picture: &Picture,
    rights: &Rights,
    nested: impl IntoIterator<Item = WireContainerId>,
) -> Response {
    let one = |running: &Running| {
        let (shown, executor, name) = of_running(picture, running)?;
        rights.may("view_containers", Some(shown.user())).then(|| get_containers::Container {
            framework_id: Some(running.record.framework.clone()),
            executor_id: Some(executor.into()),
            executor_name: Some(name),
            container_id: running.id(),
            container_status: Some(running.status()),
            resource_statistics: Some(running.statistics()),
        })
    };
    let beside = nested.into_iter().map(|id| get_containers::Container {
        container_status: Some(api::v1::ContainerStatus {
            container_id: Some(id.clone()),
            ..api::v1::ContainerStatus::default()
        }),
        container_id: id,
        ..get_containers::Container::default()
    });
    let containers = picture.running.iter().filter_map(one).chain(beside).collect();
    let containers = response::GetContainers { containers };
    Response { get_containers: Some(containers), ..answer(Type::GetContainers) }
}
