//! What frameworks are told of operations and maintenance.

use api::v1::scheduler::{Event, event};
use api::v1::{DurationInfo, InverseOffer, OperationStatus, TimeInfo, Unavailability, Uuid};
use api::{FrameworkId, OperationId};

use super::operations::OperationReport;
use super::{Leader, OutstandingInverseOffer, Turn};
use crate::allocator;
use crate::state::OperationState;

impl Leader {
    pub(super) fn tell_operation(&self, turn: &mut Turn<'_>, framework: &FrameworkId, report: OperationReport) {
        let status = OperationStatus {
            operation_id: Some(OperationId::from(report.id)),
            state: operation_state(report.state).into(),
            message: report.message,
            uuid: report.uuid.map(|uuid| Uuid { value: uuid.to_vec() }),
            agent_id: report.agent,
            ..OperationStatus::default()
        };
        let update = event::UpdateOperationStatus { status };
        let event = Event {
            r#type: Some(event::Type::UpdateOperationStatus.into()),
            update_operation_status: Some(Box::new(update)),
            ..Event::default()
        };
        self.tell(turn, framework, event);
    }

    pub(super) fn tell_inverse_offers(
        &self,
        turn: &mut Turn<'_>,
        framework: &FrameworkId,
        offers: Vec<OutstandingInverseOffer>,
    ) {
        let to_wire = |offer: OutstandingInverseOffer| InverseOffer {
            id: offer.id,
            url: turn.state.agents.get(&offer.agent).map(|agent| self.url(agent)),
            framework_id: offer.framework,
            agent_id: Some(offer.agent),
            unavailability: unavailability_to_wire(offer.unavailability),
            ..InverseOffer::default()
        };
        let inverse_offers = offers.into_iter().map(to_wire).collect();
        let event = Event {
            r#type: Some(event::Type::InverseOffers.into()),
            inverse_offers: Some(Box::new(event::InverseOffers { inverse_offers })),
            ..Event::default()
        };
        self.tell(turn, framework, event);
    }

    pub(super) fn tell_inverse_rescinded(&self, turn: &mut Turn<'_>, offer: &OutstandingInverseOffer) {
        let rescind = event::RescindInverseOffer { inverse_offer_id: offer.id.clone() };
        let event = Event {
            r#type: Some(event::Type::RescindInverseOffer.into()),
            rescind_inverse_offer: Some(Box::new(rescind)),
            ..Event::default()
        };
        self.tell(turn, &offer.framework, event);
    }
}

pub(super) fn unavailability_to_wire(unavailability: allocator::Unavailability) -> Unavailability {
    Unavailability {
        start: TimeInfo { nanoseconds: unavailability.start },
        duration: unavailability.duration.map(|nanoseconds| DurationInfo { nanoseconds }),
    }
}

const fn operation_state(state: OperationState) -> api::v1::OperationState {
    match state {
        OperationState::Pending => api::v1::OperationState::OperationPending,
        OperationState::Finished => api::v1::OperationState::OperationFinished,
        OperationState::Failed => api::v1::OperationState::OperationFailed,
        OperationState::Error => api::v1::OperationState::OperationError,
        OperationState::Dropped => api::v1::OperationState::OperationDropped,
        OperationState::Unreachable => api::v1::OperationState::OperationUnreachable,
        OperationState::GoneByOperator => api::v1::OperationState::OperationGoneByOperator,
        OperationState::Recovering => api::v1::OperationState::OperationRecovering,
        OperationState::Unknown => api::v1::OperationState::OperationUnknown,
    }
}
