//! What a task's URIs name is brought into its sandbox before it starts; until then it is TASK_STAGING.

use api::ContainerId;
use api::v1::command_info::Uri;

use super::effects::{Effect, Now};
use super::task::Task;
use super::{Agent, MAX_PULLS};
use crate::container;
use crate::container::Phase;
use crate::launch::Plan;

impl Task {
    /// What its command wants.
    pub(super) fn uris(&self) -> &[Uri] {
        self.record.info.command.as_ref().map_or(&[], |command| &command.uris)
    }

    /// Asks for it; counted, and written down first.
    pub(super) fn fetch(&mut self, plan: Plan) -> Vec<Effect> {
        self.record.phase = Phase::Pulling;
        self.record.pulls += 1;
        let (container, uris) = (self.record.container.clone(), self.uris().to_vec());
        tracing::info!(task = %self.record.task, %container, uris = uris.len(), "files are wanted");
        vec![Effect::Save(self.saved()), Effect::Fetch { container, plan: Box::new(plan), uris }]
    }

    /// The same again in a new agent.
    pub(super) fn fetch_again(&mut self, plan: Plan) -> Result<Vec<Effect>, String> {
        if self.record.pulls >= MAX_PULLS {
            return Err(format!(
                "the agent was restarted {} times while it fetched the task's URIs",
                self.record.pulls
            ));
        }
        Ok(self.fetch(plan))
    }
}

impl Agent {
    /// Everything is in the sandbox, or why not.
    pub(super) fn fetched(&mut self, container: &ContainerId, result: Result<(), String>, now: Now) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(container).filter(|task| task.record.phase == Phase::Pulling) else {
            return Vec::new();
        };
        let mut site = self.site.clone();
        site.agent = task.record.agent.clone();
        let planned = result
            .map_err(|reason| format!("Failed to fetch all URIs for container '{container}': {reason}"))
            .and_then(|()| task.plan(&site).map_err(|error| error.to_string()));
        match planned {
            Ok(plan) => self.go_on(container, plan, now),
            Err(reason) => self.step(container, container::Input::Pulled(Err(reason)), now),
        }
    }

    /// Everything the task needs is here.
    pub(super) fn go_on(&mut self, container: &ContainerId, plan: Plan, now: Now) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(container) else { return Vec::new() };
        task.starting(&self.site, &mut self.randomness, now);
        task.made_with(&plan);
        let mut effects = self.step(container, container::Input::Pulled(Ok(())), now);
        effects.push(Effect::Prepare { container: container.clone(), plan: Box::new(plan) });
        effects
    }
}
