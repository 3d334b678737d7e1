//! Who asks, and whether they may: every request of the API passes here first.
//!
//! In order: requests that a browser makes for another site's page are refused if they change
//! something; then the realm of the path decides whether its caller has to say who it is, by HTTP
//! Basic, a bearer token or a client certificate; then a scheduler's call waits for its turn under the
//! principal's rate limit. What the handlers get is a [`Principal`] and its [`Approvers`].

pub mod api_tokens;
pub mod approvers;
pub mod credentials;
pub mod elsewhere;
pub mod jwt;
pub mod rate_limits;
mod realm;
pub mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};
use master_core::acl::{Acls, Action};
use sha2::{Digest, Sha256};

pub use api_tokens::ApiTokens;
pub use approvers::{Approvers, Rank};
pub use credentials::Credentials;
pub use elsewhere::{Judgement, Shown};
pub use jwt::JwtKey;
pub use rate_limits::RateLimits;

use super::server::Connection;
use super::text;
use crate::address_buckets::{AddressBuckets, network_of};
use crate::clock::unix_ms;
use crate::revocations::Revocations;
use credentials::Known;
use jwt::Claimed;
use realm::Realm;

/// Wrong credentials of one address: so many at once, then one each [`ATTEMPT_REFILL`].
const ATTEMPTS: u32 = 20;
const ATTEMPT_REFILL: Duration = Duration::from_secs(3);
/// Right credentials are remembered by address for so long, so that whoever shares an address with a
/// guesser is not locked out with it.
const REMEMBERED: Duration = Duration::from_secs(600);
const REMEMBERED_CAPACITY: usize = 4096;

/// Who is asking, for the handlers behind [`require`]. `None` when nobody had to say.
#[derive(Clone, Debug, Default)]
pub struct Principal(pub Option<String>);

/// Which realms ask. All by default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Enforced {
    /// `mesos-master-readonly`.
    pub readonly: bool,
    /// `mesos-master-readwrite`.
    pub readwrite: bool,
    /// `mesos-master-scheduler`.
    pub frameworks: bool,
}

impl Enforced {
    /// None of them.
    pub const NONE: Self = Self { readonly: false, readwrite: false, frameworks: false };
    /// All of them.
    pub const ALL: Self = Self { readonly: true, readwrite: true, frameworks: true };

    /// Does any?
    #[must_use]
    pub const fn any(self) -> bool {
        self.readonly || self.readwrite || self.frameworks
    }

    const fn asks(self, realm: Realm) -> bool {
        match realm {
            Realm::ReadOnly => self.readonly,
            Realm::ReadWrite => self.readwrite,
            Realm::Frameworks => self.frameworks,
        }
    }
}

/// What is needed to build a [`Guard`].
pub struct Options {
    /// Which realms ask.
    pub enforced: Enforced,
    /// Everybody who has a secret.
    pub credentials: Vec<Credentials>,
    /// Issued tokens.
    pub tokens: ApiTokens,
    /// For tokens signed by somebody else.
    pub jwt: Option<JwtKey>,
    /// The rates of scheduler calls.
    pub rate_limits: Arc<RateLimits>,
    /// Who may do what.
    pub acls: Arc<Acls>,
    /// Who may admit nodes and issue tokens for others.
    pub administrators: BTreeSet<String>,
    /// Certificates that are not good any more.
    pub revocations: Arc<Revocations>,
}

/// Decides about every request.
pub struct Guard {
    enforced: Enforced,
    known: Known,
    tokens: ApiTokens,
    jwt: Option<JwtKey>,
    rate_limits: Arc<RateLimits>,
    acls: Arc<Acls>,
    administrators: BTreeSet<String>,
    revocations: Arc<Revocations>,
    failed: Mutex<Failed>,
}

/// What one address got wrong, and right.
struct Failed {
    attempts: AddressBuckets,
    right: BTreeMap<[u8; 32], Instant>,
}

/// What a request's credentials are worth.
enum Identified {
    As(String),
    /// Claims without a name.
    Nobody,
    /// None were given.
    Not,
    Wrong,
    TooManyAttempts(Duration),
}

impl Guard {
    /// Guards as told.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let attempts = AddressBuckets::new(ATTEMPTS, ATTEMPT_REFILL);
        Self {
            enforced: options.enforced,
            known: Known::new(options.credentials),
            tokens: options.tokens,
            jwt: options.jwt,
            rate_limits: options.rate_limits,
            acls: options.acls,
            administrators: options.administrators,
            revocations: options.revocations,
            failed: Mutex::new(Failed { attempts, right: BTreeMap::new() }),
        }
    }

    /// Certificates that are not good any more.
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    fn identify(&self, request: &Request, connection: &Connection) -> Identified {
        let Some(header) = request.headers().get(AUTHORIZATION) else {
            let holder = connection.certificate.as_ref().filter(|holder| self.revocations.check(holder).is_ok());
            return holder.map_or(Identified::Not, |holder| Identified::As(holder.name.clone()));
        };
        let (address, now) = (network_of(connection.remote.ip()), Instant::now());
        let remembered = remembered(address, header);
        if let Err(wait) = self.failed().check(address, &remembered, now) {
            return Identified::TooManyAttempts(wait);
        }
        let found = self.verify(header.as_bytes());
        let mut failed = self.failed();
        match found {
            Some(Claimed::Principal(principal)) => {
                failed.remember(remembered, now);
                Identified::As(principal)
            }
            Some(Claimed::Nobody) => Identified::Nobody,
            None => {
                // Checked before, so one is left, or another request of the address has just taken it.
                let taken = failed.attempts.take(address, now);
                if taken.is_ok() && failed.attempts.check(address, now).is_err() {
                    tracing::warn!(%address, "too many wrong credentials; further ones are refused for a while");
                }
                Identified::Wrong
            }
        }
    }

    fn verify(&self, header: &[u8]) -> Option<Claimed> {
        let at = header.iter().position(|byte| *byte == b' ')?;
        let (scheme, value) = (&header[..at], header[at..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"basic") {
            return self.known.principal(value).map(Claimed::Principal);
        }
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return None;
        }
        let (token, now_ms) = (std::str::from_utf8(value).ok()?, unix_ms());
        let issued = self.tokens.principal(token, now_ms).map(Claimed::Principal);
        issued.or_else(|| self.jwt.as_ref().and_then(|key| key.verify(token, now_ms / 1000)))
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn approvers(&self, principal: Option<&str>) -> Approvers {
        let administers = principal.is_some_and(|principal| self.administrators.contains(principal));
        Approvers::new(self.acls.clone(), principal, if administers { Rank::Administrator } else { Rank::Ordinary })
    }

    /// Of a realm that asks nobody who he is.
    fn nobody_asked(&self) -> Approvers {
        Approvers::new(self.acls.clone(), None, Rank::Administrator)
    }
}

impl Failed {
    fn check(&self, address: IpAddr, remembered: &[u8; 32], now: Instant) -> Result<(), Duration> {
        let right = self.right.get(remembered).is_some_and(|at| now.duration_since(*at) < REMEMBERED);
        if right { Ok(()) } else { self.attempts.check(address, now) }
    }

    fn remember(&mut self, remembered: [u8; 32], now: Instant) {
        if self.right.len() >= REMEMBERED_CAPACITY && !self.right.contains_key(&remembered) {
            self.right.retain(|_, at| now.duration_since(*at) < REMEMBERED);
            if self.right.len() >= REMEMBERED_CAPACITY {
                self.right.clear(); // who asks again is remembered again
            }
        }
        self.right.insert(remembered, now);
    }
}

/// Neither the address nor the secret is kept, only that they came together.
fn remembered(address: IpAddr, header: &HeaderValue) -> [u8; 32] {
    Sha256::new().chain_update(address.to_string()).chain_update(b"\0").chain_update(header).finalize().into()
}

/// Lets through who may pass.
pub async fn require(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let reads = matches!(method, Method::GET | Method::HEAD);
    // JSONP lets any page read what it gets.
    let shows = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("jsonp=")));
    if (!reads || shows) && realm::is_from_elsewhere(request.headers()) {
        return text(StatusCode::FORBIDDEN, "A page of another site may not ask for this\n");
    }
    let Some(realm) = Realm::of(&method, &path) else {
        request.extensions_mut().insert(Principal(None));
        request.extensions_mut().insert(guard.approvers(None));
        return next.run(request).await;
    };
    let asked = guard.enforced.asks(realm);
    let mut on_nodes = None;
    let principal = if asked {
        let Some(connection) = request.extensions().get::<Connection>().cloned() else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the connection is not known");
        };
        match guard.identify(&request, &connection) {
            Identified::As(principal) => {
                // Only who is known by the certificate has the certificate's role.
                let by_certificate = request.headers().get(AUTHORIZATION).is_none();
                let holder = connection.certificate.as_ref().filter(|_| by_certificate);
                on_nodes = holder.and_then(|holder| holder.on_nodes);
                Some(principal)
            }
            Identified::Not => return unauthorized(realm, request.headers().get(AUTHORIZATION)),
            Identified::Wrong => {
                tracing::info!(remote = %connection.remote, %method, path = ?path, "wrong credentials");
                return unauthorized(realm, request.headers().get(AUTHORIZATION));
            }
            Identified::Nobody => {
                let body = "The request's authenticated principal contains claims, but no value string. The master \
                            currently requires that principals have a value";
                return text(StatusCode::FORBIDDEN, body);
            }
            Identified::TooManyAttempts(wait) => {
                return too_many("Too many wrong credentials came from this address: try again later\n", wait);
            }
        }
    } else {
        None
    };
    let approvers = if asked { guard.approvers(principal.as_deref()) } else { guard.nobody_asked() };
    let approvers = approvers.with_node_role(on_nodes);
    if let Some(refused) = refused_endpoint(&approvers, &path) {
        return refused;
    }
    if realm == Realm::Frameworks
        && let Err(exceeded) = guard.rate_limits.pass(principal.as_deref()).await
    {
        let body = format!("Message dropped: capacity({}) exceeded", exceeded.capacity);
        return too_many(&body, Duration::from_secs(1));
    }
    request.extensions_mut().insert(approvers);
    request.extensions_mut().insert(Principal(principal));
    request.extensions_mut().insert(guard);
    next.run(request).await
}

/// What `get_endpoints` calls the list of nodes.
const NODES: &str = "/mesolith/v1/nodes";
/// Rules name nodes, and trying one lists them.
const RULES: &str = "/mesolith/v1/rules";

/// Paths that Mesos's lists speak of as such.
fn refused_endpoint(approvers: &Approvers, path: &str) -> Option<Response> {
    let path = realm::unprefixed(path);
    let allowed = match path {
        "/flags" => approvers.can_view_flags(),
        "/metrics" | "/metrics/snapshot" => approvers.allows(Action::GetEndpoint, Some("/metrics/snapshot")),
        "/files/debug" | "/logging/toggle" => approvers.allows(Action::GetEndpoint, Some(path)),
        // Not Mesos's: the nodes and their hardware, under one name. Their logs have a list of their own.
        _ if path.starts_with(RULES) => approvers.allows(Action::GetEndpoint, Some(NODES)),
        _ if path.starts_with(NODES) && !path.ends_with("/log") => approvers.allows(Action::GetEndpoint, Some(NODES)),
        _ => true,
    };
    (!allowed).then(forbidden)
}

/// 403 as Mesos says it.
#[must_use]
pub fn forbidden() -> Response {
    text(StatusCode::FORBIDDEN, "403 Forbidden.")
}

fn unauthorized(realm: Realm, given: Option<&HeaderValue>) -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "401 Unauthorized.");
    let name = realm.name();
    let mut challenge = |value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(WWW_AUTHENTICATE, value);
        }
    };
    challenge(format!("Basic realm=\"{name}\""));
    // Only who tried one is told of it: old clients read one challenge.
    if given
        .is_some_and(|given| given.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer ")))
    {
        challenge(format!("Bearer realm=\"{name}\", error=\"invalid_token\""));
    }
    response
}

fn too_many(body: &str, wait: Duration) -> Response {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    response
}
