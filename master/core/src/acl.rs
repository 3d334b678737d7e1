//! Who may do what: Mesos's access control lists, evaluated without IO.
//!
//! For each action there is a list of rules, each with subjects (principals) and objects (roles, users,
//! other principals, paths). The first rule that speaks of both decides; where none does, `permissive`
//! decides. A master without lists allows everything to everybody it has authenticated, as Mesos does.
//!
//! The lists are the leader's option and not in the replicated log: they decide what is proposed, never
//! what a committed command means.

mod action;
mod entity;
mod read;

use std::collections::BTreeMap;

pub use action::Action;
pub use entity::Entity;
pub use read::AclError;

use entity::{Names, Request};

/// All lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Acls {
    permissive: bool,
    rules: BTreeMap<Action, Vec<Rule>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    subjects: Entity,
    objects: Entity,
}

impl Default for Acls {
    fn default() -> Self {
        Self::allow_all()
    }
}

impl Acls {
    /// No lists: everything is allowed.
    #[must_use]
    pub fn allow_all() -> Self {
        Self { permissive: true, rules: BTreeMap::new() }
    }

    /// Reads the JSON of Mesos's `--acls`.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, AclError> {
        read::read(text)
    }

    /// Does this forbid anything to anybody?
    #[must_use]
    pub fn is_allow_all(&self) -> bool {
        self.permissive && self.rules.is_empty()
    }

    /// May `principal` do `action` to `object`? Somebody without a name is only what ANY and NONE speak
    /// of. The same for an object that is not known.
    #[must_use]
    pub fn allows(&self, principal: Option<&str>, action: Action, object: Option<&str>) -> bool {
        self.rules_on(principal, action, object).unwrap_or(self.permissive)
    }

    /// The same, of rules alone: none where no rule speaks of both.
    #[must_use]
    pub fn rules_on(&self, principal: Option<&str>, action: Action, object: Option<&str>) -> Option<bool> {
        let rules = self.rules.get(&action)?;
        let (subject, object) = (Request::of(principal), Request::of(object));
        let names = if action.objects_are_paths() { Names::Roles } else { Names::Plain };
        for rule in rules {
            if rule.subjects.speaks_of(subject, Names::Plain) && rule.objects.speaks_of(object, names) {
                return Some(rule.subjects.allows(subject, Names::Plain) && rule.objects.allows(object, names));
            }
        }
        None
    }

    /// Is there a rule that allows it? For what nobody has unless an operator says so.
    #[must_use]
    pub fn allows_expressly(&self, principal: Option<&str>, action: Action, object: Option<&str>) -> bool {
        let strict = Self { permissive: false, rules: BTreeMap::new() };
        let rules = self.rules.get(&action).map(|rules| (action, rules.clone()));
        Self { rules: rules.into_iter().collect(), ..strict }.allows(principal, action, object)
    }

    /// May `principal` do `action` to every one of `objects`? The first one it may not is returned.
    ///
    /// # Errors
    /// The object that is forbidden.
    pub fn allows_each<'a>(
        &self,
        principal: Option<&str>,
        action: Action,
        objects: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), &'a str> {
        match objects.into_iter().find(|object| !self.allows(principal, action, Some(object))) {
            Some(forbidden) => Err(forbidden),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acls(text: &str) -> Acls {
        Acls::parse(text).unwrap()
    }

    #[test]
    fn without_lists_everything_is_allowed() {
        let acls = Acls::default();
        assert!(acls.is_allow_all() && acls.allows(None, Action::RunTask, Some("root")));
        assert!(Acls::parse("{}").unwrap().is_allow_all());
    }

    #[test]
    fn the_first_rule_that_speaks_of_both_decides() {
        let acls = acls(
            r#"{"run_tasks":[
                {"principals":{"values":["a","b"]},"users":{"values":["alice"]}},
                {"principals":{"values":["a"]},"users":{"type":"NONE"}},
                {"principals":{"type":"ANY"},"users":{"values":["guest"]}},
                {"principals":{"type":"NONE"},"users":{"values":["root"]}}]}"#,
        );
        let may = |who, user| acls.allows(Some(who), Action::RunTask, Some(user));
        assert!(may("a", "alice") && may("b", "alice"));
        // a is told NONE for everything else before the later rules are looked at.
        assert!(!may("a", "guest") && !may("a", "bin"));
        assert!(may("c", "guest") && !may("c", "root"));
        // Nobody spoke of it: permissive.
        assert!(may("c", "bin"));
    }

    #[test]
    fn what_no_rule_speaks_of_is_decided_by_permissive() {
        let text = r#"{"permissive":false,"view_roles":[{"principals":{"values":["ops"]},"roles":{"type":"ANY"}}]}"#;
        let acls = acls(text);
        assert!(acls.allows(Some("ops"), Action::ViewRole, Some("dev")));
        assert!(!acls.allows(Some("other"), Action::ViewRole, Some("dev")));
        assert!(!acls.allows(Some("ops"), Action::RunTask, Some("root")));
        assert!(!acls.is_allow_all());
    }

    #[test]
    fn somebody_without_a_name_is_what_any_speaks_of() {
        let acls = acls(
            r#"{"permissive":false,
                "view_frameworks":[{"principals":{"type":"ANY"},"users":{"type":"ANY"}}],
                "view_tasks":[{"principals":{"values":["ops"]},"users":{"type":"ANY"}}],
                "view_flags":[{"principals":{"type":"NONE"},"flags":{"type":"ANY"}}]}"#,
        );
        assert!(acls.allows(None, Action::ViewFramework, Some("root")));
        assert!(!acls.allows(None, Action::ViewTask, Some("root")));
        assert!(!acls.allows(None, Action::ViewFlags, None) && !acls.allows(Some("ops"), Action::ViewFlags, None));
        assert!(acls.allows(Some("ops"), Action::ViewTask, None));
    }

    #[test]
    fn a_role_pattern_means_what_is_below_it() {
        let acls = acls(
            r#"{"permissive":false,"register_frameworks":[
                {"principals":{"values":["a"]},"roles":{"values":["eng/%","ops"]}}]}"#,
        );
        let may = |role| acls.allows(Some("a"), Action::RegisterFramework, Some(role));
        assert!(may("eng/web") && may("eng/web/eu") && may("ops"));
        assert!(!may("eng") && !may("engine") && !may("ops/eu") && !may("*"));
        assert_eq!(acls.allows_each(Some("a"), Action::RegisterFramework, ["ops", "eng"]), Err("eng"));
        // For anything but roles `%` is a character like others.
        let acls = super::Acls::parse(
            r#"{"permissive":false,"run_tasks":[{"principals":{"type":"ANY"},"users":{"values":["u/%"]}}]}"#,
        )
        .unwrap();
        assert!(!acls.allows(Some("a"), Action::RunTask, Some("u/x")));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| Acls::parse(text).unwrap_err().to_string();
        assert!(error("{").contains("JSON"), "{}", error("{"));
        assert!(error(r#"{"run_task":[]}"#).contains("'run_task' is no list"));
        assert!(error(r#"{"run_tasks":[{"principals":{"type":"ANY"}}]}"#).contains("run_tasks[0]: 'users'"));
        assert!(error(r#"{"run_tasks":[{"users":{"type":"ANY"}}]}"#).contains("'principals'"));
        let strange = r#"{"run_tasks":[{"principals":{"type":"SOMEBODY"},"users":{"type":"ANY"}}]}"#;
        assert!(error(strange).contains("SOMEBODY"));
        let empty = r#"{"run_tasks":[{"principals":{"values":[]},"users":{"type":"ANY"}}]}"#;
        assert!(error(empty).contains("no values"));
        let unknown = r#"{"run_tasks":[{"principals":{"type":"ANY"},"users":{"type":"ANY"},"user":{}}]}"#;
        assert!(error(unknown).contains("'user'"));
        assert!(error(r#"{"permissive":"maybe"}"#).contains("permissive"));
        let role = r#"{"view_roles":[{"principals":{"type":"ANY"},"roles":{"values":["a/%/b"]}}]}"#;
        assert!(error(role).contains("a/%/b"));
    }

    #[test]
    fn every_action_has_its_list() {
        for action in Action::ALL {
            let (list, objects) = (action.list(), action.objects());
            let text = format!(
                r#"{{"permissive":true,"{list}":[{{"principals":{{"type":"NONE"}},"{objects}":{{"type":"ANY"}}}}]}}"#
            );
            let acls = acls(&text);
            assert!(!acls.allows(Some("a"), action, Some("x")), "{list}");
            for other in Action::ALL.into_iter().filter(|other| other.list() != list) {
                assert!(acls.allows(Some("a"), other, Some("x")), "{list}");
            }
        }
    }
}
