//! What the one who asks may see and do: handed to every handler, and by it to whatever renders.
//!
//! A handler takes `Extension(approvers): Extension<Approvers>` and filters with it:
//!
//! ```text
//! let frameworks = view.state.frameworks.values().filter(|one| approvers.can_view_framework(&one.info.user));
//! let tasks = framework.tasks.values().filter(|task| {
//!     approvers.can_view_task(task.own_user.as_deref(), &framework.info.user)
//! });
//! ```
//!
//! Reads are filtered silently, as Mesos does; actions that are not allowed get
//! [`forbidden`](super::forbidden): 403 with Mesos's text.

use std::sync::Arc;

use api::node_api::NodeRole;
use master_core::acl::{Acls, Action};

/// One request's rights. Cheap to clone; `Send` and `'static`, so that it can go into a rendering thread.
#[derive(Clone, Debug)]
pub struct Approvers {
    acls: Arc<Acls>,
    principal: Option<Arc<str>>,
    administrator: bool,
    on_nodes: Option<NodeRole>,
}

/// What a principal is beside what the lists say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rank {
    /// Admits and revokes nodes, issues tokens for others.
    Administrator,
    /// None of that.
    Ordinary,
}

impl Default for Approvers {
    fn default() -> Self {
        Self::allow_all()
    }
}

impl Approvers {
    /// Everything is allowed: for an open API, and for tests.
    #[must_use]
    pub fn allow_all() -> Self {
        Self { acls: Arc::new(Acls::allow_all()), principal: None, administrator: true, on_nodes: None }
    }

    /// The rights of `principal`.
    #[must_use]
    pub fn new(acls: Arc<Acls>, principal: Option<&str>, rank: Rank) -> Self {
        let administrator = rank == Rank::Administrator;
        Self { acls, principal: principal.map(Arc::from), administrator, on_nodes: None }
    }

    /// With the role on nodes that a certificate names.
    #[must_use]
    pub fn with_node_role(self, on_nodes: Option<NodeRole>) -> Self {
        Self { on_nodes, ..self }
    }

    /// What they may ask of nodes. An administrator may all.
    #[must_use]
    pub fn node_role(&self) -> Option<NodeRole> {
        if self.administrator { Some(NodeRole::Admin) } else { self.on_nodes }
    }

    /// Who asks; `None` when nobody was asked to say.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// May they admit and revoke nodes, and issue tokens for others? Not a matter of Mesos's lists.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.administrator
    }

    /// Nothing is forbidden to anybody: what is rendered may be shared between those who ask.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.acls.is_allow_all()
    }

    /// Any action on any object of it: a role, a user, a principal, a path, as the action's list has it.
    /// `None` where the object is not known or does not matter.
    #[must_use]
    pub fn allows(&self, action: Action, object: Option<&str>) -> bool {
        self.acls.allows(self.principal(), action, object)
    }

    /// As [`Self::allows`], but only by a rule that says so.
    #[must_use]
    pub fn allows_expressly(&self, action: Action, object: Option<&str>) -> bool {
        self.acls.allows_expressly(self.principal(), action, object)
    }

    /// Frameworks are seen by the user they run tasks as (`FrameworkInfo.user`).
    #[must_use]
    pub fn can_view_framework(&self, user: &str) -> bool {
        self.allows(Action::ViewFramework, Some(user))
    }

    /// Tasks are seen by their own user (the command's or the executor's command's), or their framework's.
    #[must_use]
    pub fn can_view_task(&self, own_user: Option<&str>, framework_user: &str) -> bool {
        self.allows(Action::ViewTask, Some(own_user.unwrap_or(framework_user)))
    }

    /// Executors, in the same way.
    #[must_use]
    pub fn can_view_executor(&self, own_user: Option<&str>, framework_user: &str) -> bool {
        self.allows(Action::ViewExecutor, Some(own_user.unwrap_or(framework_user)))
    }

    /// Roles, and what is reserved for them: `/roles`, `/weights`, GET_ROLES, reservations in agents.
    #[must_use]
    pub fn can_view_role(&self, role: &str) -> bool {
        self.allows(Action::ViewRole, Some(role))
    }

    /// A role's quota: `/quota`, GET_QUOTA.
    #[must_use]
    pub fn can_get_quota(&self, role: &str) -> bool {
        self.allows(Action::GetQuota, Some(role))
    }

    /// The flags, in `/state` too.
    #[must_use]
    pub fn can_view_flags(&self) -> bool {
        self.allows(Action::ViewFlags, None)
    }

    /// The files of a task.
    #[must_use]
    pub fn can_access_sandbox(&self, own_user: Option<&str>, framework_user: &str) -> bool {
        self.allows(Action::AccessSandbox, Some(own_user.unwrap_or(framework_user)))
    }

    /// To run something beside a task: what Mesos's lists say of it, and where they say nothing, operators and nobody
    /// else. (Mesos allows it to everybody then.)
    #[must_use]
    pub fn can_enter(&self, action: Action, own_user: Option<&str>, framework_user: &str) -> bool {
        let user = own_user.unwrap_or(framework_user);
        let told = self.acls.rules_on(self.principal(), action, Some(user));
        told.unwrap_or_else(|| self.node_role().is_some_and(|role| role >= NodeRole::Operator))
    }

    /// What the lists say of it; `None` where they say nothing.
    #[must_use]
    pub fn rules(&self, action: Action, object: Option<&str>) -> Option<bool> {
        self.acls.rules_on(self.principal(), action, object)
    }

    /// The logs of masters and nodes.
    #[must_use]
    pub fn can_access_logs(&self) -> bool {
        self.allows(Action::AccessMesosLog, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_seen_by_its_own_user_before_its_frameworks() {
        let acls = Acls::parse(
            r#"{"permissive":false,"view_tasks":[{"principals":{"values":["dev"]},"users":{"values":["web"]}}]}"#,
        )
        .unwrap();
        let dev = Approvers::new(Arc::new(acls), Some("dev"), Rank::Ordinary);
        assert!(dev.can_view_task(Some("web"), "root") && dev.can_view_task(None, "web"));
        assert!(!dev.can_view_task(Some("root"), "web") && !dev.can_view_framework("web"));
        assert!(!dev.sees_all() && !dev.is_administrator());
        let all = Approvers::default();
        assert!(all.sees_all() && all.can_view_flags() && all.can_view_role("x") && all.is_administrator());
    }
}
