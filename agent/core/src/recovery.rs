//! After the agent process died: what the checkpoint says against what is really there.

use std::collections::{BTreeMap, BTreeSet};

use api::ContainerId;

use crate::container::{Exit, Input, Phase};
use crate::handover::ContainerState;
use crate::record::{Process, Record};

/// What the shell found on the machine before anything else is done.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The boot that runs now.
    pub boot_id: String,
    /// The launcher's list.
    pub containers: Vec<ContainerState>,
    /// Those of the recorded processes that are still there: same pid, same start time.
    pub alive: BTreeSet<Process>,
    /// Start times of the first processes in `containers`, by pid.
    pub start_ticks: BTreeMap<i32, u64>,
}

/// What to do about one recorded run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resume {
    /// Nothing: wait for what `init` will say.
    Wait,
    /// Do the step in flight again; each is safe to repeat.
    Again(Again),
    /// It has happened meanwhile: go on from there.
    Input(Input),
    /// The process is gone: when `init` has kept no status until then, nobody saw how it ended.
    ExpectExit,
}

/// See [`Resume::Again`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Again {
    /// Bring the image here; what had come of it is in the store.
    Pull,
    /// From the start; remove a half-made container first.
    PrepareAfterDelete,
    /// Tell the waiting process to go on.
    Start,
    /// Read what it used.
    ReadUsage,
    /// Remove it.
    Delete,
}

/// Decides for one record; may correct its process.
#[must_use]
pub fn resume(record: &mut Record, found: &Found) -> Resume {
    if record.phase == Phase::Gone {
        return Resume::Wait;
    }
    if record.boot_id != found.boot_id {
        // Every process of another boot is dead, and so is its launcher's state.
        return match record.phase {
            Phase::Exited { .. } => Resume::Again(Again::ReadUsage),
            Phase::Deleting => Resume::Again(Again::Delete),
            Phase::Pulling
            | Phase::Preparing { .. }
            | Phase::Creating { .. }
            | Phase::Starting { .. }
            | Phase::Running
            | Phase::Killing { .. }
            | Phase::Gone => Resume::Input(Input::Exited(Exit::Rebooted)),
        };
    }
    let container = found.containers.iter().find(|state| state.container == record.container.as_str());
    let status = container.map(|state| state.status.as_str());
    match record.phase {
        Phase::Pulling => Resume::Again(Again::Pull),
        Phase::Preparing { .. } => Resume::Again(Again::PrepareAfterDelete),
        Phase::Creating { .. } => match (status, container.and_then(|state| state.pid)) {
            // It was made while nobody listened.
            (Some("created"), Some(pid)) if record.network.is_none() && record.named_network.is_none() => {
                record.process = Some(Process { pid, start_ticks: found.start_ticks.get(&pid).copied().unwrap_or(0) });
                Resume::Input(Input::Created(Ok(())))
            }
            // Nor is it known whether it was connected.
            _ => Resume::Again(Again::PrepareAfterDelete),
        },
        Phase::Starting { exit: None, .. } => match status {
            Some("created") => Resume::Again(Again::Start),
            Some("running" | "stopped") => Resume::Input(Input::Started(Ok(()))),
            // The launcher has lost it, and with it the way to start it.
            _ => Resume::Input(Input::Started(Err("the container was lost while it was started".to_owned()))),
        },
        Phase::Starting { exit: Some(_), .. } => Resume::Input(Input::Started(Ok(()))),
        Phase::Running | Phase::Killing { .. } => match record.process {
            Some(process) if found.alive.contains(&process) => Resume::Wait,
            _ => Resume::ExpectExit,
        },
        Phase::Exited { .. } => Resume::Again(Again::ReadUsage),
        Phase::Deleting => Resume::Again(Again::Delete),
        Phase::Gone => Resume::Wait,
    }
}

/// Containers of nobody: made for a run that no record knows any more.
#[must_use]
pub fn orphans(records: &[Record], found: &Found) -> Vec<ContainerId> {
    let known: BTreeSet<&str> = records.iter().map(|record| record.container.as_str()).collect();
    found
        .containers
        .iter()
        .filter(|state| !known.contains(state.container.as_str()))
        .map(|state| state.container.as_str().into())
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use api::TaskState;
    use api::v1::{FrameworkInfo, TaskInfo};

    use super::*;
    use crate::container::{Cause, Kill};
    use crate::handover::ExitStatus;
    use crate::status::Updates;

    fn record(phase: Phase) -> Record {
        Record {
            version: 1,
            boot_id: "b".to_owned(),
            agent: "a".into(),
            framework: "f".into(),
            task: "t".into(),
            container: "c".into(),
            info: Box::new(TaskInfo::default()),
            framework_info: Box::new(FrameworkInfo::default()),
            phase,
            process: Some(Process { pid: 7, start_ticks: 70 }),
            state: TaskState::Running,
            updates: Updates::default(),
            complete_by_ms: None,
            image: None,
            ids: None,
            mounted: Vec::new(),
            named_network: None,
            volume_images: BTreeMap::new(),
            pulls: 0,
            part: crate::record::Part::Alone,
            secrets: crate::launch::Secrets::new(),
            network: None,
            cores: BTreeSet::new(),
            gpus: BTreeSet::new(),
            overrun: None,
            checks: crate::checks::Checks::default(),
        }
    }

    enum Process7 {
        Alive,
        Dead,
    }
    use Process7::{Alive, Dead};

    fn found(status: Option<&str>, alive: Process7) -> Found {
        let process = Process { pid: 7, start_ticks: 70 };
        Found {
            boot_id: "b".to_owned(),
            containers: status
                .map(|status| ContainerState { container: "c".to_owned(), pid: Some(7), status: status.to_owned() })
                .into_iter()
                .collect(),
            alive: matches!(alive, Alive).then_some(process).into_iter().collect(),
            start_ticks: [(7, 70)].into(),
        }
    }

    #[test]
    fn each_phase_goes_on_from_what_is_really_there() {
        let kill = None;
        let exit = Exit::Seen(ExitStatus::Code(0));
        let started = |exit| Phase::Starting { kill, exit };
        for (name, phase, found, expected) in [
            ("an image was on its way", Phase::Pulling, found(None, Dead), Resume::Again(Again::Pull)),
            (
                "nothing was made",
                Phase::Preparing { kill },
                found(None, Dead),
                Resume::Again(Again::PrepareAfterDelete),
            ),
            (
                "half made",
                Phase::Creating { kill },
                found(Some("creating"), Alive),
                Resume::Again(Again::PrepareAfterDelete),
            ),
            (
                "made unseen",
                Phase::Creating { kill },
                found(Some("created"), Alive),
                Resume::Input(Input::Created(Ok(()))),
            ),
            ("not yet started", started(None), found(Some("created"), Alive), Resume::Again(Again::Start)),
            ("started unseen", started(None), found(Some("running"), Alive), Resume::Input(Input::Started(Ok(())))),
            ("runs on", Phase::Running, found(Some("running"), Alive), Resume::Wait),
            ("ended meanwhile", Phase::Running, found(Some("stopped"), Dead), Resume::ExpectExit),
            ("ended before", Phase::Exited { exit, cause: None }, found(None, Dead), Resume::Again(Again::ReadUsage)),
            ("being removed", Phase::Deleting, found(None, Dead), Resume::Again(Again::Delete)),
            ("only updates left", Phase::Gone, found(None, Dead), Resume::Wait),
        ] {
            assert_eq!(resume(&mut record(phase), &found), expected, "{name}");
        }
    }

    #[test]
    fn a_reused_pid_is_not_the_task() {
        let mut found = found(Some("running"), Alive);
        found.alive = [Process { pid: 7, start_ticks: 99 }].into();
        assert_eq!(resume(&mut record(Phase::Running), &found), Resume::ExpectExit);
    }

    #[test]
    fn a_reboot_ends_what_ran() {
        let mut other = found(Some("running"), Alive);
        other.boot_id = "another".to_owned();
        let killing = Phase::Killing { cause: Cause::Asked, force_at_ms: 1, forced: false };
        for phase in
            [Phase::Running, killing, Phase::Preparing { kill: Some(Kill { cause: Cause::Asked, grace_ms: 1 }) }]
        {
            assert_eq!(resume(&mut record(phase), &other), Resume::Input(Input::Exited(Exit::Rebooted)));
        }
    }

    #[test]
    fn unknown_containers_are_orphans() {
        assert_eq!(orphans(&[], &found(Some("running"), Alive)), vec![ContainerId::from("c")]);
        assert!(orphans(&[record(Phase::Running)], &found(Some("running"), Alive)).is_empty());
    }
}
