//! Events: envelopes on any publisher.

use serde_json::json;
use tars_contracts::Envelope;
use tars_layers::{Events, LayerExt};
use tars_ports::{ErrorKind, QoS};

use crate::flaky::Flaky;

#[tokio::test(start_paused = true)]
async fn an_event_is_the_envelope_that_the_client_makes() {
    let flaky = Flaky::new([]);
    let publisher = flaky.clone().layer(Events::new("stt"));
    let event = publisher.publish_event("stt/final", "stt.final", &json!({"text": "hello"}));
    let id = event
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .correlation_id("")
        .await
        .unwrap();
    let reply = publisher.publish_event("stt/final", "stt.final", &json!({}));
    assert_eq!(reply.correlation_id("request-1").await.unwrap(), "request-1");

    let arrived = flaky.arrived();
    assert_eq!((arrived[0].qos, arrived[0].retain), (QoS::AtLeastOnce, true));
    let envelope: Envelope = Envelope::from_bytes(&arrived[0].payload).unwrap();
    assert_eq!((envelope.id.as_str(), envelope.source.as_str()), (id.as_str(), "stt"));
    assert_eq!(
        (envelope.event_type.as_str(), &envelope.data["text"]),
        ("stt.final", &json!("hello"))
    );
    assert!(flaky.payloads()[1].starts_with(r#"{"id":"request-1","type":"stt.final""#));
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_event_is_an_error_before_anything_is_sent() {
    let flaky = Flaky::new([]);
    let publisher = flaky.clone().layer(Events::new("stt"));
    let error = publisher
        .publish_event("stt/final", "stt.final", &[1])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidPayload);
    assert!(error.to_string().contains("stt.final"), "{error}");
    let error = publisher
        .publish_event("stt/+", "stt.final", &json!({}))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTopic);
    assert_eq!(flaky.attempts(), 0);
}
