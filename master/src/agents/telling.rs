//! What a session tells its agent beside the driver's words: whom to trust, and that a crash report was written down.

use std::sync::PoisonError;

use api::link;
use api::link::from_master::Message as FromMaster;
use sha2::{Digest, Sha256};

use super::Session;
use crate::crashes::Crash;

impl Session {
    /// Writes down what a node found of a boot that ended badly. It says it again until it is told that it was.
    pub(super) fn crash(&mut self, report: link::CrashReport) -> Option<FromMaster> {
        if self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&report.id) {
            return Some(FromMaster::CrashTaken(link::CrashTaken { id: report.id }));
        }
        let (crashes, node, kept) = (self.crashes.clone(), self.node.to_string(), self.kept.clone());
        tokio::task::spawn_blocking(move || {
            let link::CrashReport { id, kind, unix_ms, text, boot_id } = report;
            tracing::warn!(node, kind, id, "a node reports that a boot before this one ended badly");
            let crash = Crash { node, id: id.clone(), kind, found_ms: unix_ms, received_ms: 0, boot_id, text };
            match crashes.keep(crash) {
                Ok(()) => drop(kept.lock().unwrap_or_else(PoisonError::into_inner).insert(id)),
                Err(error) => tracing::warn!(%error, "a crash report was not kept; the node sends it again"),
            }
        });
        None
    }

    /// Which authorities the agent is to trust.
    pub(super) fn trust(&mut self) -> FromMaster {
        self.authorities.mark_unchanged();
        let trust = self.authority.now();
        let sha256 = |certificate: &[u8]| Sha256::digest(certificate).to_vec();
        FromMaster::Authorities(link::Authorities {
            sha256: trust.trusted.iter().map(|one| sha256(one)).collect(),
            issuer: sha256(trust.issuer.der()),
        })
    }
}
