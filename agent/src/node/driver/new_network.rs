//! Between the master, who says what the node's network is to be, and who looks after it.

use agent_core::network::Offered;
use api::network::Settings;

use super::Driver;
use crate::node::network::Word;

impl Driver {
    /// A host's network is not ours: nobody is told.
    pub(super) fn tell_network(&self, word: Word) {
        let Some(network) = &self.network else { return };
        if network.try_send(word).is_err() {
            // The master says it again with the next session.
            tracing::error!("who looks after the network does not listen");
        }
    }

    /// The master's rules say this of our network.
    pub(super) fn network_said(&self, said: &api::link::NetworkSettings) {
        let settings: Settings = match said.json.as_str() {
            "" => Settings::default(),
            json => match serde_json::from_str(json) {
                Ok(settings) => settings,
                // A later version's, say.
                Err(error) => return tracing::error!(%error, rule = said.rule, "the network of a rule cannot be read"),
            },
        };
        if let Err(error) = settings.validate() {
            return tracing::error!(%error, rule = said.rule, "the network of a rule cannot be");
        }
        self.tell_network(Word::Offered(Offered { settings, rule: said.rule.clone() }));
    }

    /// The network is another: a session that still stands proves nothing of it.
    pub(super) fn find_the_master_anew(&mut self) {
        if self.registration.is_none() {
            return;
        }
        self.forget_the_master();
        if let Some(online) = self.online.clone() {
            self.came_online(online);
        }
    }

    pub(super) fn forget_the_master(&mut self) {
        self.next_session();
        self.end_session();
        self.end_standby();
        self.registration = None;
    }
}
