//! Images a run waits for: the one it runs in, and those it has for volumes, one after the other.

use api::ContainerId;

use super::effects::{Effect, Now, Pulled};
use super::task::Task;
use super::{Agent, MAX_PULLS};
use crate::container::{self, Phase};
use crate::image::ImageRequest;
use crate::launch::{self, ImageRoot, LaunchError};
use crate::record::Record;

impl Agent {
    /// What is still missing.
    pub(super) fn next_pull(&self, record: &Record) -> Result<Option<ImageRequest>, LaunchError> {
        let own = launch::image_request(&self.site, &record.info, &record.secrets)?;
        if own.is_some() && record.image.is_none() {
            return Ok(own);
        }
        let volumes = launch::volume_images(&self.site, &record.info, &record.secrets)?;
        Ok(volumes.into_iter().find(|request| !record.volume_images.contains_key(&request.reference.to_string())))
    }

    /// Who the task is in its image, and what it runs there, can be said only now.
    pub(super) fn pulled(
        &mut self,
        container: &ContainerId,
        result: Result<Box<Pulled>, String>,
        now: Now,
    ) -> Vec<Effect> {
        if !self.tasks.get(container).is_some_and(|task| task.record.phase == Phase::Pulling) {
            return Vec::new();
        }
        let Some(mut task) = self.tasks.remove(container) else { return Vec::new() };
        let mut site = self.site.clone();
        site.agent = task.record.agent.clone();
        let kept = result.and_then(|pulled| self.keep(&mut task, *pulled).map_err(|error| error.to_string()));
        let planned = match kept {
            Ok(Some(next)) => {
                let effects = task.pull_next(next);
                self.tasks.insert(container.clone(), task);
                return effects;
            }
            Ok(None) => self.allot(&mut task).and_then(|()| task.plan(&site)).map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        let fetches = !task.uris().is_empty();
        let effects = planned.as_ref().ok().filter(|_| fetches).map(|plan| task.fetch(plan.clone()));
        self.tasks.insert(container.clone(), task);
        match (effects, planned) {
            (Some(effects), _) => effects,
            (None, Ok(plan)) => self.go_on(container, plan, now),
            (None, Err(reason)) => self.step(container, container::Input::Pulled(Err(reason)), now),
        }
    }

    /// Writes an image down that has come; gives the next one, if there is any.
    fn keep(&self, task: &mut Task, pulled: Pulled) -> Result<Option<ImageRequest>, LaunchError> {
        let Pulled { image, accounts } = pulled;
        let record = &mut task.record;
        let own = launch::image_request(&self.site, &record.info, &record.secrets)?;
        if own.is_some() && record.image.is_none() {
            let mut site = self.site.clone();
            site.agent = record.agent.clone();
            let identity = launch::identity(&site, &record.info, &record.framework_info, &image, &accounts)?;
            record.image = Some(ImageRoot { image, identity });
        } else if let Some(request) = self.next_pull(record)? {
            record.volume_images.insert(request.reference.to_string(), image);
        }
        self.next_pull(&task.record)
    }

    /// Again after a restart. An agent that dies of one image shall not die of it for ever.
    pub(super) fn pull_again(&mut self, container: &ContainerId, now: Now) -> Vec<Effect> {
        let Some(next) = self.tasks.get(container).map(|task| self.next_pull(&task.record)) else { return Vec::new() };
        let Some(task) = self.tasks.get_mut(container) else { return Vec::new() };
        let reason = match next {
            Ok(Some(_)) if task.record.pulls >= MAX_PULLS => {
                format!("the agent was restarted {} times while it pulled the image", task.record.pulls)
            }
            Ok(Some(request)) => return task.pull(request),
            Ok(None) if !task.uris().is_empty() => {
                let mut site = self.site.clone();
                site.agent = task.record.agent.clone();
                let planned = task.plan(&site).map_err(|error| error.to_string());
                match planned.and_then(|plan| task.fetch_again(plan)) {
                    Ok(effects) => return effects,
                    Err(reason) => reason,
                }
            }
            Ok(None) => "the default image was taken away while it was pulled".to_owned(),
            Err(error) => error.to_string(),
        };
        self.step(container, container::Input::Pulled(Err(reason)), now)
    }
}

impl Task {
    /// Asks for the image; counted, and written down first.
    pub(super) fn pull(&mut self, request: ImageRequest) -> Vec<Effect> {
        self.record.pulls += 1;
        self.pull_next(request)
    }

    /// Asks for another one: the count is of the agent's lives.
    fn pull_next(&mut self, request: ImageRequest) -> Vec<Effect> {
        let container = self.record.container.clone();
        tracing::info!(task = %self.record.task, %container, image = %request.reference, "an image is wanted");
        vec![Effect::Save(self.saved()), Effect::Pull { container, request: Box::new(request) }]
    }
}
