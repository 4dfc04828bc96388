//! A peer that plays a scene over a socket, for all who connect. It answers what a
//! broker answers and keeps nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use tars_ports::Refusal;
use tokio::task::{JoinHandle, JoinSet};

use super::Scene;
use crate::scripted::packet::{self, leading_id, parse_publish};
use crate::scripted::{ScriptedBroker, ScriptedPeer};

pub(super) struct Script {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Script {
    pub(super) async fn start(scene: Scene) -> Self {
        let broker = ScriptedBroker::start().await;
        let address = broker.address();
        let scene = Arc::new(scene);
        let task = tokio::spawn(async move {
            let mut peers = JoinSet::new();
            loop {
                tokio::select! {
                    peer = broker.accept() => {
                        peers.spawn(play(peer, Arc::clone(&scene)));
                    }
                    Some(_) = peers.join_next() => {}
                }
            }
        });
        Self { address, task }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(mut peer: ScriptedPeer, scene: Arc<Scene>) {
    while let Some((first, body)) = peer.next_packet().await {
        let answer = match (first & 0xf0, &*scene) {
            (_, Scene::Silent) => continue,
            (packet::CONNECT, Scene::Refuse(refusal)) => {
                peer.try_send(&packet::connack(false, code(*refusal))).await;
                return;
            }
            (packet::CONNECT, _) => packet::connack(false, 0),
            (packet::SUBSCRIBE, Scene::DenyFilter(denied)) => packet::suback(leading_id(&body), &codes(&body, denied)),
            (packet::UNSUBSCRIBE, _) => packet::unsuback(leading_id(&body)),
            (packet::PUBLISH, _) => match parse_publish(first, &body) {
                publish if publish.qos == 1 => packet::puback(publish.id.unwrap_or_default()),
                publish if publish.qos == 2 => packet::pubrec(publish.id.unwrap_or_default()),
                _ => continue,
            },
            (packet::PUBREL, _) => packet::pubcomp(leading_id(&body)),
            (packet::PINGREQ, _) => packet::pingresp(),
            _ => continue,
        };
        if !peer.try_send(&answer).await {
            return;
        }
    }
}

fn code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::ProtocolVersion => 1,
        Refusal::ClientId => 2,
        Refusal::Unavailable => 3,
        Refusal::BadCredentials => 4,
        Refusal::Other(code) => code,
        _ => 5,
    }
}

/// One answer for each filter of a SUBSCRIBE: what was asked for, or 0x80.
fn codes(body: &[u8], denied: &str) -> Vec<u8> {
    let mut codes = Vec::new();
    let mut rest = &body[2..];
    while rest.len() > 2 {
        let end = 2 + usize::from(leading_id(rest));
        let asked = rest[end];
        codes.push(if &rest[2..end] == denied.as_bytes() {
            0x80
        } else {
            asked
        });
        rest = &rest[end + 1..];
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_has_its_answer() {
        let mut body = vec![0, 9];
        for (filter, qos) in [("a/b", 1), ("no", 2), ("c", 0)] {
            body.extend(packet::text(filter));
            body.push(qos);
        }
        assert_eq!(codes(&body, "no"), [1, 0x80, 0]);
    }
}
