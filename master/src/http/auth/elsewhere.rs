//! Who speaks to somebody else of this cluster: a node asks for its visitors what this master would decide itself.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use api::node_api::NodeRole;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use master_core::acl::Action;

use super::realm::Realm;
use super::{Approvers, Claimed, Guard, remembered};
use crate::address_buckets::network_of;

/// What a visitor shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The header, empty if there is none.
    pub authorization: &'a str,
    /// Where it came from.
    pub address: IpAddr,
    /// In Mesos's realm of those who change something.
    pub writes: bool,
}

/// See [`Guard::judge`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// It may come in.
    Is {
        /// Who it is, if anybody had to say.
        principal: Option<String>,
        /// Whether it may, question by question.
        granted: Vec<bool>,
    },
    /// It may not.
    Refused {
        /// 401, 403 or 429.
        status: StatusCode,
        /// With 429.
        wait: Option<Duration>,
    },
}

impl Guard {
    /// Who shows that, and what of these may they do? Each question is the name of one of Mesos's lists and an object of
    /// it. What enters a task is for operators where the lists say nothing, as everywhere here.
    #[must_use]
    pub fn judge(&self, shown: &Shown<'_>, questions: &[(&str, Option<&str>)]) -> Judgement {
        let refused = |status| Judgement::Refused { status, wait: None };
        let realm = if shown.writes { Realm::ReadWrite } else { Realm::ReadOnly };
        let (principal, approvers) = if self.enforced.asks(realm) {
            match self.recognise(shown) {
                Ok(principal) => (Some(principal.clone()), self.approvers(Some(&principal))),
                Err(judgement) => return judgement,
            }
        } else {
            (None, self.nobody_asked())
        };
        if shown.authorization.len() > LONGEST {
            return refused(StatusCode::UNAUTHORIZED);
        }
        let granted = questions.iter().map(|(list, object)| is_granted(&approvers, list, *object)).collect();
        Judgement::Is { principal, granted }
    }

    fn recognise(&self, shown: &Shown<'_>) -> Result<String, Judgement> {
        let refused = |status| Judgement::Refused { status, wait: None };
        if shown.authorization.is_empty() || shown.authorization.len() > LONGEST {
            return Err(refused(StatusCode::UNAUTHORIZED));
        }
        let header = HeaderValue::from_str(shown.authorization).map_err(|_| refused(StatusCode::UNAUTHORIZED))?;
        let (address, now) = (network_of(shown.address), Instant::now());
        let remembered = remembered(address, &header);
        if let Err(wait) = self.failed().check(address, &remembered, now) {
            return Err(Judgement::Refused { status: StatusCode::TOO_MANY_REQUESTS, wait: Some(wait) });
        }
        match self.verify(header.as_bytes()) {
            Some(Claimed::Principal(principal)) => {
                self.failed().remember(remembered, now);
                Ok(principal)
            }
            Some(Claimed::Nobody) => Err(refused(StatusCode::FORBIDDEN)),
            None => {
                // Another request of the address may have just taken the last one.
                let _ = self.failed().attempts.take(address, now);
                tracing::info!(%address, "wrong credentials were shown to a node");
                Err(refused(StatusCode::UNAUTHORIZED))
            }
        }
    }
}

/// Tokens and passwords are shorter.
const LONGEST: usize = 16 << 10;

/// What only operators may where the lists say nothing.
const OPERATORS: [Action; 8] = [
    Action::LaunchNestedContainer,
    Action::LaunchNestedContainerSession,
    Action::KillNestedContainer,
    Action::WaitNestedContainer,
    Action::RemoveNestedContainer,
    Action::AttachContainerInput,
    Action::AttachContainerOutput,
    Action::PruneImages,
];

fn is_granted(approvers: &Approvers, list: &str, object: Option<&str>) -> bool {
    // A list this version does not know allows nobody.
    let Some(action) = Action::ALL.into_iter().find(|action| action.list() == list) else { return false };
    if OPERATORS.contains(&action) {
        let told = approvers.rules(action, object);
        return told.unwrap_or_else(|| approvers.node_role() >= Some(NodeRole::Operator));
    }
    approvers.allows(action, object)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use base64::Engine;
    use master_core::acl::Acls;

    use super::super::{Credentials, Enforced, Options, RateLimits};
    use super::*;

    fn guard(enforced: Enforced) -> Guard {
        let acls = r#"{"access_sandboxes":[{"principals":{"values":["dev"]},"users":{"values":["web"]}},
            {"principals":{"values":["dev"]},"users":{"type":"NONE"}}]}"#;
        let one = |principal: &str| Credentials { principal: principal.to_owned(), secret: "s".to_owned() };
        Guard::new(Options {
            enforced,
            credentials: vec![one("dev"), one("ops")],
            tokens: super::super::ApiTokens::new(crate::kept::Keeper::in_memory()),
            jwt: None,
            rate_limits: Arc::new(RateLimits::default()),
            acls: Arc::new(Acls::parse(acls).unwrap()),
            administrators: BTreeSet::from(["ops".to_owned()]),
            revocations: Arc::new(crate::revocations::Revocations::new(crate::kept::Keeper::in_memory())),
        })
    }

    fn basic(principal: &str, secret: &str) -> String {
        let pair = format!("{principal}:{secret}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    fn shown(authorization: &str) -> Shown<'_> {
        Shown { authorization, address: "10.0.0.9".parse().unwrap(), writes: false }
    }

    #[test]
    fn a_node_is_told_who_its_visitor_is_and_what_it_may() {
        let guard = guard(Enforced::ALL);
        let questions = [
            ("access_sandboxes", Some("web")),
            ("access_sandboxes", Some("root")),
            ("view_containers", None),
            ("launch_nested_container_sessions", Some("web")),
            ("no_such_list", None),
        ];
        let judge = |authorization: &str| guard.judge(&shown(authorization), &questions);
        let is = |principal: &str, granted: [bool; 5]| Judgement::Is {
            principal: Some(principal.to_owned()),
            granted: granted.to_vec(),
        };
        assert_eq!(judge(&basic("dev", "s")), is("dev", [true, false, true, false, false]));
        assert_eq!(judge(&basic("ops", "s")), is("ops", [true, true, true, true, false]));
        let unauthorized = Judgement::Refused { status: StatusCode::UNAUTHORIZED, wait: None };
        for wrong in [String::new(), basic("dev", "x"), "Bearer x".to_owned(), "Basic".to_owned()] {
            assert_eq!(judge(&wrong), unauthorized, "{wrong}");
        }
    }

    #[test]
    fn who_guesses_waits_and_where_nobody_is_asked_nobody_has_to_say() {
        let guarded = guard(Enforced::ALL);
        for _ in 0..20 {
            drop(guarded.judge(&shown(&basic("dev", "guess")), &[]));
        }
        let Judgement::Refused { status, wait } = guarded.judge(&shown(&basic("dev", "s")), &[]) else {
            panic!("it may not even try");
        };
        assert!(status == StatusCode::TOO_MANY_REQUESTS && wait.is_some());
        let open = guard(Enforced::NONE).judge(&shown(""), &[("view_flags", None)]);
        assert_eq!(open, Judgement::Is { principal: None, granted: vec![true] });
    }
}
