//! A broker that misbehaves in every way that the testkit knows.

use std::sync::Arc;

use adapter_paho::PahoConnector;
use tars_testkit::scripted::hostile;

use crate::{tasks, until};

#[tokio::test]
async fn every_attack_ends_with_a_reason_or_harms_nothing() {
    hostile::check_all(Arc::new(PahoConnector::new())).await;
    until("all tasks end", || tasks() == 0).await;
}
