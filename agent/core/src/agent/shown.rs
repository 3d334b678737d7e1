//! What the agent shows of itself to those who ask the node directly.

use api::ContainerId;
use api::v1::CommandInfo;

use super::Agent;
use crate::container::Phase;
use crate::executor::ExecutorRecord;
use crate::launch;
use crate::record::Record;

impl Agent {
    /// Every run there is something of, those included that are over and not all told.
    pub fn runs(&self) -> impl Iterator<Item = &Record> {
        self.tasks.values().map(|task| &task.record)
    }

    /// Every executor there is something of.
    pub fn executor_records(&self) -> impl Iterator<Item = &ExecutorRecord> {
        self.executors.values().map(|executor| &executor.record)
    }

    /// Has it a process others can stand beside?
    #[must_use]
    pub const fn stands(&self, record: &Record) -> bool {
        matches!(record.phase, Phase::Running | Phase::Killing { .. })
    }

    /// The executor whose secret this is.
    #[must_use]
    pub fn executor_of_token(&self, token: &str) -> Option<&ContainerId> {
        let executors = self.executors.values().map(|executor| &executor.record);
        // All are compared: how long it takes says nothing of which is nearly right.
        let same = executors.filter(|record| !record.is_pod() && super::executors::is_same(token, &record.token.0));
        same.map(|record| &record.container).fold(None, |found, container| found.or(Some(container)))
    }
}

/// What a command runs: the program and its arguments, or what is wrong with it.
///
/// # Errors
/// It names no program.
pub fn command_line(command: &CommandInfo) -> Result<Vec<String>, String> {
    launch::arguments(command).map_err(|error| error.to_string())
}
