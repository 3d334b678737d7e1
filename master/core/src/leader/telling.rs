//! What frameworks are told of operations and maintenance.

use api::FrameworkId;

use super::operations::OperationReport;
use super::{Leader, OutstandingInverseOffer, Turn};

impl Leader {
    pub(super) fn tell_operation(&self, turn: &mut Turn<'_>, framework: &FrameworkId, report: OperationReport) {
        let _ = turn;
        tracing::debug!(%framework, ?report, "operation");
    }

    pub(super) fn tell_inverse_offers(
        &self,
        turn: &mut Turn<'_>,
        framework: &FrameworkId,
        offers: Vec<OutstandingInverseOffer>,
    ) {
        let _ = turn;
        tracing::debug!(%framework, ?offers, "inverse offers");
    }

    pub(super) fn tell_inverse_rescinded(&self, turn: &mut Turn<'_>, offer: &OutstandingInverseOffer) {
        let _ = turn;
        tracing::debug!(framework = %offer.framework, offer = %offer.id, "inverse offer rescinded");
    }
}
