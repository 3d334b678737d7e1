//! What the master's core says to an agent, in the words of the link.

use api::MasterId;
use api::link;
use api::link::from_master::Message as FromMaster;
use api::v1::{Format, resources_to_wire};
use master_core::ToAgent;

use super::{Session, disk_keys};

impl Session {
    pub(super) fn word(&self, message: ToAgent, master: &MasterId, term: u64) -> FromMaster {
        match message {
            ToAgent::Registered { agent } => FromMaster::Registered(link::Registered {
                agent_id: agent.into(),
                master_id: master.to_string(),
                ping_timeout_ms: u64::try_from(self.ping_timeout.as_millis()).unwrap_or(u64::MAX),
                term,
            }),
            ToAgent::RegisterInFull => FromMaster::RegisterInFull(link::RegisterInFull {}),
            ToAgent::Refused { reason, retry } => {
                let standing = self.replica.standing();
                let leader = standing.leader_member().filter(|_| retry && standing.leader != Some(standing.id));
                let leader = leader.map(|member| member.addr.clone()).unwrap_or_default();
                FromMaster::Refused(link::Refused { reason, retry, leader })
            }
            ToAgent::RunTask { framework, container, task, framework_info, executor } => {
                FromMaster::RunTask(link::RunTask {
                    framework_id: framework.into(),
                    container_id: container.into(),
                    secrets: self.secrets.for_task(&task),
                    task: Some(*task),
                    framework_info: Some(framework_info.as_ref().clone()),
                    executor_container_id: executor.map(Into::into).unwrap_or_default(),
                })
            }
            ToAgent::RunGroup { framework, tasks, framework_info, executor } => {
                let tasks = tasks.into_iter().map(|(container, task)| link::RunTask {
                    framework_id: framework.to_string(),
                    container_id: container.into(),
                    secrets: self.secrets.for_task(&task),
                    task: Some(task),
                    framework_info: Some(framework_info.as_ref().clone()),
                    executor_container_id: executor.to_string(),
                });
                FromMaster::RunGroup(link::RunGroup { tasks: tasks.collect() })
            }
            ToAgent::ExecutorMessage { framework, executor, data } => {
                let (framework_id, executor_id) = (framework.into(), executor.into());
                FromMaster::ExecutorMessage(link::ExecutorMessage { framework_id, executor_id, data })
            }
            ToAgent::ShutdownExecutor { framework, executor } => {
                let (framework_id, executor_id) = (framework.into(), executor.into());
                FromMaster::ShutdownExecutor(link::ShutdownExecutor { framework_id, executor_id })
            }
            ToAgent::ForgetExecutor { framework, container } => {
                let (framework_id, container_id) = (framework.into(), container.into());
                FromMaster::ForgetExecutor(link::ForgetExecutor { framework_id, container_id })
            }
            ToAgent::KillTask { framework, task, grace_ms } => {
                FromMaster::KillTask(link::KillTask { framework_id: framework.into(), task_id: task.into(), grace_ms })
            }
            ToAgent::Acknowledge { framework, task, uuid } => FromMaster::Acknowledge(link::Acknowledge {
                framework_id: framework.into(),
                task_id: task.into(),
                uuid: uuid.to_vec(),
            }),
            ToAgent::ShutdownFramework { framework } => {
                FromMaster::ShutdownFramework(link::ShutdownFramework { framework_id: framework.into() })
            }
            ToAgent::Network { json, rule } => FromMaster::Network(link::NetworkSettings { json, rule }),
            ToAgent::Volumes { persistent, first } => {
                let format = Format { refined: true, allocation_role: None };
                FromMaster::Volumes(link::Volumes { persistent: resources_to_wire(&persistent, &format), first })
            }
            ToAgent::DiskRules { rules } => disk_keys::rules(&rules),
            ToAgent::Ping { nonce } => FromMaster::Ping(link::Ping { nonce }),
        }
    }
}
