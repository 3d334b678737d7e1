//! What a session tells its agent beside the driver's words: whom to trust, and that a crash report was written down.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use api::link;
use api::link::from_master::Message as FromMaster;
use sha2::{Digest, Sha256};

use super::Session;
use crate::crashes::Crash;

/// The longest name of a report, its kind or its boot.
const LONGEST_NAME: usize = 200;
/// Reports whose acknowledgement waits until they are sent again. Full: the node is told of the next one later.
const MOST_KEPT: usize = 16;

/// A session's crash reports.
#[derive(Default)]
pub(super) struct Reports {
    /// Those that are written down: the agent is told when it sends them again.
    kept: Arc<Mutex<BTreeSet<String>>>,
    /// One is being written down; the others come again.
    in_work: Arc<AtomicBool>,
}

impl Session {
    /// Writes down what a node found of a boot that ended badly. It says it again until it is told that it was.
    pub(super) fn crash(&mut self, report: link::CrashReport) -> Option<FromMaster> {
        let Reports { kept, in_work } = &self.reports;
        let is_name = |text: &String| text.len() <= LONGEST_NAME && !text.contains(char::is_control);
        if ![&report.id, &report.kind, &report.boot_id].into_iter().all(is_name) {
            tracing::warn!(node = %self.node, "a crash report without a proper name is not kept");
            return None;
        }
        {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.remove(&report.id) {
                return Some(FromMaster::CrashTaken(link::CrashTaken { id: report.id }));
            }
            if kept.len() >= MOST_KEPT || in_work.swap(true, Ordering::AcqRel) {
                return None;
            }
        }
        let (crashes, node) = (self.crashes.clone(), self.node.to_string());
        let (kept, in_work) = (kept.clone(), in_work.clone());
        tokio::task::spawn_blocking(move || {
            let link::CrashReport { id, kind, unix_ms, text, boot_id } = report;
            tracing::warn!(node, kind, id, "a node reports that a boot before this one ended badly");
            let crash = Crash { node, id: id.clone(), kind, found_ms: unix_ms, received_ms: 0, boot_id, text };
            match crashes.keep(crash) {
                Ok(()) => drop(kept.lock().unwrap_or_else(PoisonError::into_inner).insert(id)),
                Err(error) => tracing::warn!(%error, "a crash report was not kept; the node sends it again"),
            }
            in_work.store(false, Ordering::Release);
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
