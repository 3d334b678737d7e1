//! What a node asks about those who speak to it themselves: it keeps no secrets and no lists, the master does.

use std::net::{IpAddr, Ipv6Addr};

use api::NodeName;
use api::link::from_master::Message as FromMaster;
use api::link::{Inquiry, Verdict};
use hyper::StatusCode;
use sha2::{Digest, Sha256};

use crate::http::auth::{Guard, Judgement, Shown};

/// A request asks about itself and the users it would see: no agent of ours asks more.
const MOST_QUESTIONS: usize = 1024;

/// Whoever shows that to the node of this name: who are they, and may they?
pub(super) fn answer(guard: &Guard, node: &NodeName, inquiry: Inquiry) -> FromMaster {
    let Inquiry { request, authorization, address: _, writes, questions } = inquiry;
    // All of a node's unknown visitors are one: what it says of their addresses would let it guess without end, or shut
    // somebody else out.
    let address = of(node);
    let shown = Shown { authorization: &authorization, address, writes };
    let questions: Vec<(&str, Option<&str>)> = questions
        .iter()
        .take(MOST_QUESTIONS)
        .map(|question| (question.action.as_str(), question.object.as_deref()))
        .collect();
    let verdict = match guard.judge(&shown, &questions) {
        Judgement::Is { principal, granted } => {
            let status = StatusCode::OK.as_u16().into();
            Verdict { request, status, principal: principal.unwrap_or_default(), granted, wait_secs: 0 }
        }
        Judgement::Refused { status, wait } => {
            let wait_secs = wait.map_or(0, |wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX));
            Verdict { request, status: status.as_u16().into(), wait_secs, ..Verdict::default() }
        }
    };
    FromMaster::Verdict(verdict)
}

/// An address nobody has, for each name another.
fn of(node: &NodeName) -> IpAddr {
    let digest = Sha256::digest(node.as_str());
    let mut address = [0xfd; 16];
    address[1..].copy_from_slice(&digest[..15]);
    IpAddr::V6(Ipv6Addr::from(address))
}
