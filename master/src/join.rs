//! Certificates for nodes: in exchange for a token, or for a certificate that still holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::NodeName;
use api::link::join_server::Join;
use api::link::{JoinReply, JoinRequest};
use master_core::claims::{How, MachineId};
use tonic::{Request, Response, Status};

use crate::agents::node_of;
use crate::authority::{Authority, Trust};
use crate::ca::{self, Ca, NODE_DAYS, Request as CertificateRequest, SLACK_SECS};
use crate::claims::{Admission, Claims};
use crate::clock::unix_ms;
use crate::revocations::Revocations;
use crate::tokens::{Claim, Grant, Refusal, Tokens, UseError};

/// A follower knows a token that was made elsewhere a moment ago only a moment later.
const NEWS: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The `Join` service.
pub struct JoinService {
    authority: Arc<Authority>,
    tokens: Arc<Tokens>,
    revocations: Arc<Revocations>,
    claims: Arc<Claims>,
}

/// Longer than any token or request of ours: nothing else is worth parsing.
const LONGEST_CSR: usize = 16 << 10;

impl JoinService {
    /// Certifies with `authority` whoever `tokens` knows, unless it was revoked.
    #[must_use]
    pub fn new(
        authority: Arc<Authority>,
        tokens: Arc<Tokens>,
        revocations: Arc<Revocations>,
        claims: Arc<Claims>,
    ) -> Self {
        Self { authority, tokens, revocations, claims }
    }
}

#[tonic::async_trait]
impl Join for JoinService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let remote = request.remote_addr();
        // Whether its certificate still holds was checked on the way in.
        let holder = node_of(&request).ok();
        let (trust, tokens, revocations) = (self.authority.now(), self.tokens.clone(), self.revocations.clone());
        let authority = self.authority.clone();
        let claims = self.claims.clone();
        let words = request.into_inner();
        let machine = words.machine.clone().unwrap_or_default();
        let holder = holder.filter(|_| words.token.is_empty());
        let renews = holder.is_some();
        let joined: Result<JoinReply, Status> = tokio::task::spawn_blocking(move || match holder {
            Some(node) => {
                let reply = renew(&trust, &words, node.as_str())?;
                note(&authority, &reply);
                Ok(reply)
            }
            None => {
                let reply = join(&trust, &tokens, &revocations, &words)?;
                note(&authority, &reply);
                claim_by_token(&claims, &tokens, &words, &reply.node_name)?;
                Ok(reply)
            }
        })
        .await
        .map_err(|_| Status::internal("joining failed"))?;
        // Quoted, for a stranger's words must not look like lines of this log.
        match &joined {
            Ok(reply) if renews => tracing::info!(?remote, node = %reply.node_name, "certificate renewed"),
            Ok(reply) => {
                tracing::info!(?remote, node = %reply.node_name, uuid = ?machine.uuid, macs = ?machine.macs, "node joined");
            }
            Err(status) => tracing::warn!(
                ?remote, uuid = ?machine.uuid, macs = ?machine.macs, reason = status.message(),
                "node refused to join"
            ),
        }
        joined.map(Response::new)
    }
}

// tonic's own type; it is built once per refused machine.
#[allow(clippy::result_large_err)]
fn join(trust: &Trust, tokens: &Tokens, revocations: &Revocations, words: &JoinRequest) -> Result<JoinReply, Status> {
    let now_ms = unix_ms();
    let machine = words.machine.clone().unwrap_or_default();
    let macs: Vec<String> = machine.macs.iter().map(|mac| mac.to_ascii_lowercase()).collect();
    let began = Instant::now();
    loop {
        let request = read_request(words, now_ms)?;
        let claim = Claim { uuid: &machine.uuid, macs: &macs, key: request.key };
        let grant = match tokens.check(&words.token, &claim, now_ms) {
            Err(Refusal::Wrong) if !tokens.leads() && began.elapsed() < NEWS => {
                std::thread::sleep(LOOK);
                continue;
            }
            checked => checked.map_err(|refusal| Status::permission_denied(refusal.to_string()))?,
        };
        let admitted =
            |node: &str| revocations.check_node(node).map_err(|revoked| Status::permission_denied(revoked.to_string()));
        let (node, certificate) = match grant {
            Grant::Again { node, certificate } => {
                admitted(&node)?;
                (node, certificate)
            }
            Grant::New(node) => {
                admitted(&node)?;
                let key = request.key;
                let certificate = sign(&trust.issuer, request, &node, now_ms)?;
                match tokens.used(&words.token, &key, &certificate) {
                    Ok(()) => (node, certificate),
                    // Of two with one token only one is the first: the other one looks again.
                    Err(UseError::Taken) => continue,
                    Err(UseError::Keep(error)) => {
                        tracing::error!(%error, "a node's joining was not kept");
                        return Err(Status::unavailable(error.to_string()));
                    }
                }
            }
        };
        return Ok(reply(&trust.serving, node, certificate, now_ms));
    }
}

/// Which nodes have a certificate of the authority that issues now.
fn note(authority: &Authority, reply: &JoinReply) {
    if let Ok(certificate) = ca::der_of(&reply.certificate_pem) {
        authority.noted(&reply.node_name, &certificate);
    }
}

/// Who was given a token for a name was chosen by somebody: it is claimed with that.
#[allow(clippy::result_large_err)]
fn claim_by_token(claims: &Claims, tokens: &Tokens, words: &JoinRequest, node: &str) -> Result<(), Status> {
    if claims.admission() == Admission::Open || !tokens.is_made_for_a_name(&words.token) {
        return Ok(());
    }
    let machine = words.machine.clone().unwrap_or_default();
    let macs = machine.macs.iter().map(|mac| mac.to_ascii_lowercase()).collect();
    let machine = MachineId { uuid: machine.uuid, serial: String::new(), macs };
    let claimed = claims.claim(&[(NodeName::from(node), machine)], &How::Token, "mesolith");
    claimed.map_err(|error| Status::unavailable(error.to_string()))
}

#[allow(clippy::result_large_err)]
fn renew(trust: &Trust, words: &JoinRequest, node: &str) -> Result<JoinReply, Status> {
    let now_ms = unix_ms();
    let certificate = sign(&trust.issuer, read_request(words, now_ms)?, node, now_ms)?;
    Ok(reply(&trust.serving, node.to_owned(), certificate, now_ms))
}

#[allow(clippy::result_large_err)]
fn read_request(words: &JoinRequest, now_ms: u64) -> Result<CertificateRequest, Status> {
    if let Some(text) = clock_refusal(words.unix_ms, now_ms) {
        return Err(Status::failed_precondition(text));
    }
    if words.csr_pem.len() > LONGEST_CSR {
        return Err(Status::invalid_argument("the certificate request is too long"));
    }
    CertificateRequest::parse(&words.csr_pem).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[allow(clippy::result_large_err)]
fn sign(ca: &Ca, request: CertificateRequest, node: &str, now_ms: u64) -> Result<String, Status> {
    ca.certify(request, node, seconds(now_ms)).map_err(|error: ca::CaError| {
        tracing::error!(node, %error, "cannot certify a node");
        Status::internal("the master cannot make the certificate")
    })
}

fn reply(ca: &Ca, node_name: String, certificate_pem: String, now_ms: u64) -> JoinReply {
    JoinReply { certificate_pem, ca_pem: ca.pem().to_owned(), node_name, unix_ms: now_ms }
}

/// A certificate that the node's own clock would call invalid is of no use to it: say so now, not in
/// a TLS alert later. A node that does not tell its time (0) is believed to know it.
fn clock_refusal(theirs_ms: u64, ours_ms: u64) -> Option<String> {
    let off = seconds(theirs_ms) - seconds(ours_ms);
    let (behind, ahead) = (-off > SLACK_SECS, off > NODE_DAYS * 24 * 3600);
    (theirs_ms != 0 && (behind || ahead)).then(|| {
        format!(
            "the node's clock is {} s {} the master's, outside the validity of the certificate it would get: set the clock",
            off.abs(),
            if behind { "behind" } else { "ahead of" }
        )
    })
}

fn seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::kept::Keeper;
    use crate::tokens::Binding;

    const MAC: &str = "52:54:00:77:00:01";

    struct Fixture {
        authority: Arc<Authority>,
        tokens: Tokens,
        revocations: Revocations,
        _dir: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), seconds(unix_ms())).unwrap();
        let issue = |ca: &Ca| ca.issue("master", &["localhost".to_owned()], seconds(unix_ms()));
        let authority = Authority::new(dir.path(), ca, issue).unwrap();
        let keeper = Keeper::in_memory();
        let (tokens, revocations) = (Tokens::new(keeper.clone()), Revocations::new(keeper));
        Fixture { authority, tokens, revocations, _dir: dir }
    }

    fn csr(key: &KeyPair) -> String {
        CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_lost_reply_is_given_again_to_the_same_key_only() {
        let fixture = fixture();
        let binding = Binding::Machine { mac: MAC.to_owned(), uuid: String::new() };
        let token = fixture.tokens.make(binding, "node-1", unix_ms()).unwrap();
        let machine = api::link::Machine { macs: vec![MAC.to_owned()], ..Default::default() };
        let key = KeyPair::generate().unwrap();
        let ask = |token: &str, key: &KeyPair| {
            let words = JoinRequest {
                token: token.to_owned(),
                csr_pem: csr(key),
                machine: Some(machine.clone()),
                unix_ms: unix_ms(),
            };
            join(&fixture.authority.now(), &fixture.tokens, &fixture.revocations, &words)
        };
        assert!(ask("wrong", &key).unwrap_err().message().contains("wrong"));
        let first = ask(&token, &key).unwrap();
        assert_eq!(first.node_name, "node-1");
        assert_eq!(ask(&token, &key).unwrap().certificate_pem, first.certificate_pem);
        let other = ask(&token, &KeyPair::generate().unwrap()).unwrap_err();
        assert_eq!(other.code(), tonic::Code::PermissionDenied);
        assert!(other.message().contains("used"));
        fixture.revocations.revoke_node("node-1", "stolen", unix_ms()).unwrap();
        let revoked = ask(&token, &key).unwrap_err();
        assert!(revoked.message().contains("'node-1' was revoked by an operator: stolen"), "{revoked}");
    }

    #[test]
    fn a_clock_outside_the_certificates_validity_is_named() {
        const NOW: u64 = 1_800_000_000_000;
        const DAY: u64 = 86_400_000;
        assert_eq!(clock_refusal(NOW - DAY, NOW), None);
        assert_eq!(clock_refusal(0, NOW), None);
        assert!(clock_refusal(NOW - 2 * DAY, NOW).unwrap().contains("172800 s behind"));
        assert!(clock_refusal(NOW + 31 * DAY, NOW).unwrap().contains("ahead"));
    }
}
