//! Who gets a message: retained messages, overlapping filters, shared subscriptions.

use std::collections::BTreeMap;

use tars_contracts::TopicFilter;
use tars_ports::{Message, QoS};

use super::packet::Packet;
use super::state::State;
use super::{Logged, OverlapMode};

/// Messages that the log keeps; older ones leave it.
const LOG_LENGTH: usize = 65_536;

impl State {
    /// The broker takes a message in, from a client or (`None`) from the test.
    pub(super) fn publish(&mut self, client_id: Option<&str>, mut message: Message) {
        // The key is the publisher's own and never travels.
        message.key = 0;
        if self.record.log.len() == LOG_LENGTH {
            self.record.log.pop_front();
        }
        self.record.log.push_back(Logged {
            client_id: client_id.map(str::to_owned),
            message: message.clone(),
        });
        if message.retain {
            let topic = message.topic.as_str().to_owned();
            // An empty payload clears (section 3.3.1.3).
            match message.payload.is_empty() {
                true => self.retained.remove(&topic),
                false => self.retained.insert(topic, message.clone()),
            };
        }
        // To those who were subscribed already it is an ordinary message.
        message.retain = false;
        for (receiver, qos) in self.receivers(&message) {
            self.deliver(&receiver, message.clone().with_qos(qos));
        }
    }

    /// In answer to SUBSCRIBE, each time anew (section 3.8.4). A shared subscription
    /// gets none.
    pub(super) fn replay_retained(&mut self, client_id: &str, filter: &TopicFilter, qos: QoS) {
        if filter.share_group().is_some() {
            return;
        }
        let matching: Vec<Message> = self
            .retained
            .values()
            .filter(|message| filter.matches(&message.topic))
            .cloned()
            .collect();
        for message in matching {
            let qos = message.qos.min(qos);
            self.deliver(client_id, message.with_qos(qos));
        }
    }

    /// Client ids with the QoS of each copy.
    fn receivers(&mut self, message: &Message) -> Vec<(String, QoS)> {
        let mut receivers = Vec::new();
        // By the whole filter: `$share/group/filter` names the group and what it shares.
        let mut shares: BTreeMap<String, Vec<(String, QoS, bool)>> = BTreeMap::new();
        for (client_id, session) in &self.sessions {
            let mut copies = Vec::new();
            for (filter, qos) in &session.subscriptions {
                if !filter.matches(&message.topic) {
                    continue;
                }
                let qos = message.qos.min(*qos);
                if filter.share_group().is_some() {
                    let member = (client_id.clone(), qos, session.link.is_some());
                    shares.entry(filter.as_str().to_owned()).or_default().push(member);
                } else {
                    copies.push(qos);
                }
            }
            if self.config.overlap == OverlapMode::OneCopy {
                copies = copies.into_iter().max().into_iter().collect();
            }
            receivers.extend(copies.into_iter().map(|qos| (client_id.clone(), qos)));
        }
        for (filter, mut members) in shares {
            // Those who are there come before those who are away.
            if members.iter().any(|(_, _, online)| *online) {
                members.retain(|(_, _, online)| *online);
            }
            let turn = self.share_turns.entry(filter).or_default();
            let (client_id, qos, _) = members.swap_remove(*turn % members.len());
            *turn = turn.wrapping_add(1);
            receivers.push((client_id, qos));
        }
        receivers
    }

    fn deliver(&mut self, client_id: &str, message: Message) {
        let Some(session) = self.sessions.get_mut(client_id) else {
            return;
        };
        if message.qos != QoS::AtMostOnce {
            session.enqueue(message);
            self.fill(client_id);
        } else if let Some(link) = session.link {
            self.send(
                link,
                Packet::Publish {
                    id: 0,
                    dup: false,
                    message,
                },
            );
        }
    }
}
