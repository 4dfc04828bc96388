//! Events as the original implementation put them on the wire.

use anyhow::{Context, Result};
use serde::Deserialize;
use tars_mqtt::{QoS, TopicName};

/// One captured event; `payload` is the exact text.
#[derive(Deserialize)]
pub(crate) struct Captured {
    pub(crate) name: String,
    pub(crate) topic: TopicName,
    pub(crate) qos: u8,
    pub(crate) retain: u8,
    pub(crate) payload: String,
}

impl Captured {
    /// At least QoS 1, so that the demo can say that nothing was lost.
    pub(crate) fn qos(&self) -> QoS {
        QoS::from_u8(self.qos).unwrap_or_default().max(QoS::AtLeastOnce)
    }
}

pub(crate) fn all() -> Result<Vec<Captured>> {
    let lines = include_str!("../../tars-contracts/tests/vectors/vectors.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).context("a captured event does not read"))
        .collect()
}
