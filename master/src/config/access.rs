//! The options of who may use the API, and how much of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgAction, Args};
use master_core::acl::Acls;

use crate::http::auth::{Credentials, Enforced, JwtKey, RateLimits};

/// As given.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Who may use the API")]
pub struct AccessArgs {
    /// Plain HTTP without authentication on the API port: for tests and closed networks only
    #[arg(long)]
    pub insecure_api: bool,
    /// More principals and secrets, as Mesos takes them: {"credentials":[{"principal":"p","secret":"s"}]},
    /// or lines of a principal and a secret. The generated ones in api-credentials.json stay valid
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Principals that may admit and revoke nodes and issue tokens for others, beside the generated one
    #[arg(long, value_name = "PRINCIPAL,..", value_delimiter = ',')]
    pub administrators: Vec<String>,
    /// Ask who reads /state and the like [default: true, with --insecure-api: false]
    #[arg(long, alias = "authenticate_http_readonly", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub authenticate_http_readonly: Option<bool>,
    /// Ask who uses /api/v1 and changes things [default: true, with --insecure-api: false]
    #[arg(long, alias = "authenticate_http_readwrite", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub authenticate_http_readwrite: Option<bool>,
    /// Ask whose framework it is [default: true, with --insecure-api: false]
    #[arg(
        long,
        aliases = ["authenticate_http_frameworks", "authenticate-frameworks", "authenticate_frameworks"],
        value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set
    )]
    pub authenticate_http_frameworks: Option<bool>,
    /// Believe bearer tokens (JWT, HS256) signed with this key, as the principal in their `sub`
    #[arg(long, alias = "jwt_secret_key", value_name = "FILE")]
    pub jwt_secret_key: Option<PathBuf>,
    /// Mesos's access control lists: a file, or the JSON itself. Without: who is authenticated may do everything
    #[arg(long, value_name = "FILE|JSON")]
    pub acls: Option<String>,
    /// Mesos's rates of frameworks' calls by principal: a file, or the JSON itself
    #[arg(long, alias = "rate_limits", value_name = "FILE|JSON")]
    pub rate_limits: Option<String>,
    /// Certificate chain (PEM) of the API port, instead of one of the cluster's CA; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "insecure_api")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Connections to the API port at once
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub http_connections: usize,
    /// Connections to the API port from one address [default: a quarter of all]
    #[arg(long, value_name = "N")]
    pub http_connections_per_address: Option<usize>,
    /// Event streams of the operator API at once; the oldest is closed for one more
    #[arg(long, alias = "max_operator_event_stream_subscribers", value_name = "N", default_value_t = 1000)]
    pub max_operator_event_stream_subscribers: usize,
}

/// Decided.
#[derive(Clone)]
pub struct Access {
    /// Plain HTTP.
    pub insecure_api: bool,
    /// Which realms ask.
    pub enforced: Enforced,
    /// From `--credentials`.
    pub credentials: Vec<Credentials>,
    /// From `--administrators`.
    pub administrators: BTreeSet<String>,
    /// From `--jwt-secret-key`.
    pub jwt: Option<JwtKey>,
    /// From `--acls`.
    pub acls: Arc<Acls>,
    /// From `--rate-limits`.
    pub rate_limits: Arc<RateLimits>,
    /// Certificate and key, if not our own.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections at once.
    pub connections: usize,
    /// Of one address.
    pub per_address: usize,
    /// Event streams of the operator API at once.
    pub event_streams: usize,
}

// Secrets are in it.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { insecure_api, enforced, administrators, .. } = self;
        f.debug_struct("Access")
            .field("insecure_api", insecure_api)
            .field("enforced", enforced)
            .field("administrators", administrators)
            .finish_non_exhaustive()
    }
}

/// Decides; mistakes are added to `mistakes`.
pub(super) fn read(args: AccessArgs, mistakes: &mut Vec<String>) -> Access {
    let mut asks = |flag: &str, given: Option<bool>| {
        if given == Some(false) && !args.insecure_api {
            mistakes.push(format!("--{flag}=false opens the API to everybody: say so with --insecure-api"));
        }
        given.unwrap_or(!args.insecure_api)
    };
    let enforced = Enforced {
        readonly: asks("authenticate-http-readonly", args.authenticate_http_readonly),
        readwrite: asks("authenticate-http-readwrite", args.authenticate_http_readwrite),
        frameworks: asks("authenticate-http-frameworks", args.authenticate_http_frameworks),
    };
    let credentials = args.credentials.as_deref().map(|path| {
        Credentials::read_file(path).unwrap_or_else(|found| {
            mistakes.extend(found.iter().map(|mistake| format!("--credentials {}: {mistake}", path.display())));
            Vec::new()
        })
    });
    let jwt = args.jwt_secret_key.as_deref().and_then(|path| {
        let key = std::fs::read(path).map_err(|error| format!("cannot read it: {error}"));
        let key = key.and_then(|bytes| JwtKey::new(&bytes));
        key.map_err(|mistake| mistakes.push(format!("--jwt-secret-key {}: {mistake}", path.display()))).ok()
    });
    let mut parsed = |flag: &str, given: Option<&String>| {
        let given = given?;
        let text = file_or_json(given);
        text.map_err(|mistake| mistakes.push(format!("--{flag} {given}: {mistake}"))).ok()
    };
    let acls = parsed("acls", args.acls.as_ref());
    let rate_limits = parsed("rate-limits", args.rate_limits.as_ref());
    let acls = acls.and_then(|text| {
        let causes = |error: &dyn std::error::Error| {
            error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        };
        Acls::parse(&text).map_err(|error| mistakes.push(format!("--acls: {}", causes(&error)))).ok()
    });
    let rate_limits = rate_limits.and_then(|text| {
        RateLimits::parse(&text).map_err(|mistake| mistakes.push(format!("--rate-limits: {mistake}"))).ok()
    });
    if args.http_connections == 0 || args.http_connections_per_address == Some(0) {
        mistakes.push("--http-connections and --http-connections-per-address: at least 1".to_owned());
    }
    if args.max_operator_event_stream_subscribers == 0 {
        mistakes.push("--max-operator-event-stream-subscribers: at least 1".to_owned());
    }
    Access {
        insecure_api: args.insecure_api,
        enforced,
        credentials: credentials.unwrap_or_default(),
        administrators: args.administrators.into_iter().filter(|name| !name.is_empty()).collect(),
        jwt,
        acls: Arc::new(acls.unwrap_or_default()),
        rate_limits: Arc::new(rate_limits.unwrap_or_default()),
        tls: args.tls_cert.zip(args.tls_key),
        connections: args.http_connections,
        per_address: args.http_connections_per_address.unwrap_or(args.http_connections.div_ceil(4)),
        event_streams: args.max_operator_event_stream_subscribers,
    }
}

/// Mesos's flags take `file:///a`, `/a` or the JSON itself.
fn file_or_json(given: &str) -> Result<String, String> {
    if given.trim_start().starts_with('{') {
        return Ok(given.to_owned());
    }
    let path = Path::new(given.strip_prefix("file://").unwrap_or(given));
    std::fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(args: AccessArgs) -> (Access, Vec<String>) {
        let mut mistakes = Vec::new();
        let access = read(
            AccessArgs { http_connections: 100, max_operator_event_stream_subscribers: 10, ..args },
            &mut mistakes,
        );
        (access, mistakes)
    }

    #[test]
    fn the_api_is_open_only_to_who_says_insecure() {
        let (access, mistakes) = decided(AccessArgs::default());
        assert_eq!((access.enforced, access.per_address), (Enforced::ALL, 25));
        assert!(mistakes.is_empty());
        let (_, mistakes) = decided(AccessArgs { authenticate_http_readonly: Some(false), ..AccessArgs::default() });
        assert!(mistakes[0].contains("--insecure-api"), "{mistakes:?}");
        let open = AccessArgs { insecure_api: true, ..AccessArgs::default() };
        assert_eq!(decided(open).0.enforced, Enforced::NONE);
        let some = AccessArgs { insecure_api: true, authenticate_http_frameworks: Some(true), ..AccessArgs::default() };
        let (access, mistakes) = decided(some);
        assert!(access.enforced.frameworks && !access.enforced.readonly && mistakes.is_empty());
    }

    #[test]
    fn lists_and_limits_are_files_or_json_and_mistakes_name_their_flag() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("acls.json");
        std::fs::write(&file, r#"{"permissive":false}"#).unwrap();
        let (access, mistakes) = decided(AccessArgs {
            acls: Some(format!("file://{}", file.display())),
            rate_limits: Some(r#"{"aggregate_default_qps":1}"#.to_owned()),
            ..AccessArgs::default()
        });
        assert!(mistakes.is_empty() && !access.acls.is_allow_all(), "{mistakes:?}");
        let (_, mistakes) = decided(AccessArgs {
            acls: Some("{".to_owned()),
            rate_limits: Some("/nowhere".to_owned()),
            credentials: Some("/nowhere".into()),
            jwt_secret_key: Some("/nowhere".into()),
            ..AccessArgs::default()
        });
        for flag in ["--acls", "--rate-limits", "--credentials", "--jwt-secret-key"] {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(flag)), "{flag}: {mistakes:?}");
        }
    }
}
