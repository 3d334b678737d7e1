//! The two sides of a rule: somebody in particular, anybody, nobody.

use std::collections::BTreeSet;

/// Subjects or objects of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entity {
    /// Allows everything.
    Any,
    /// Allows nothing.
    None,
    /// Allows these.
    Some(BTreeSet<String>),
}

/// What the names in a rule are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Names {
    /// Words, compared as a whole.
    Plain,
    /// Roles: `a/%` is all below `a`.
    Roles,
}

/// Who or what is asked about: somebody known, or anybody.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    One(&'a str),
    Any,
}

impl<'a> Request<'a> {
    pub(super) fn of(name: Option<&'a str>) -> Self {
        name.map_or(Self::Any, Self::One)
    }
}

impl Entity {
    /// Does a rule with this side concern the request? ANY and NONE concern everything.
    pub(super) fn speaks_of(&self, request: Request<'_>, names: Names) -> bool {
        match (self, request) {
            (Self::Any | Self::None, _) => true,
            (Self::Some(values), Request::One(name)) => holds(values, name, names),
            (Self::Some(_), Request::Any) => false,
        }
    }

    /// And if it does: yes or no?
    pub(super) fn allows(&self, request: Request<'_>, names: Names) -> bool {
        match (self, request) {
            (Self::Any, _) => true,
            (Self::None, _) | (Self::Some(_), Request::Any) => false,
            (Self::Some(values), Request::One(name)) => holds(values, name, names),
        }
    }
}

fn holds(values: &BTreeSet<String>, name: &str, names: Names) -> bool {
    values.contains(name) || (names == Names::Roles && values.iter().any(|value| is_below(value, name)))
}

/// `a/%` holds `a/b` and `a/b/c`, not `a`.
fn is_below(pattern: &str, role: &str) -> bool {
    let parent = pattern.strip_suffix('%').filter(|parent| parent.ends_with('/'));
    parent.is_some_and(|parent| role.len() > parent.len() && role.starts_with(parent))
}
