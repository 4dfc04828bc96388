use tars_mqtt::{ErrorKind, LifecycleEvent, Refusal, State};
use tars_testkit::memory::MemoryBroker;

use crate::{client_with, config, connected, secs};

#[tokio::test(start_paused = true)]
async fn connect_resolves_when_the_broker_accepted() {
    let broker = MemoryBroker::new();
    let client = client_with(&broker, config("svc"));
    let mut events = client.lifecycle();
    assert_eq!(client.state().current(), State::Created);
    assert!(!client.is_connected());
    client.connect().await.unwrap();
    assert_eq!(client.state().current(), State::Connected);
    assert!(client.is_connected());
    assert_eq!(broker.connections(), ["svc"]);
    assert!(matches!(
        events.next().await,
        Some(LifecycleEvent::Connected { session_present: false })
    ));
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyConnected);
    assert!(error.to_string().contains("Connected"));
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_callers_error_and_connect_may_be_called_again() {
    let broker = MemoryBroker::new();
    broker.stop();
    let client = client_with(&broker, config("svc"));
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(client.state().current(), State::Created);
    broker.start();
    broker.refuse_connects(Refusal::BadCredentials);
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::BadCredentials));
    assert!(!error.is_transient());
    broker.refuse_connects(None);
    client.connect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_connect_retry_it_keeps_trying() {
    let broker = MemoryBroker::new();
    broker.stop();
    let client = client_with(&broker, config("svc").connect_retry(true));
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    tokio::time::sleep(secs(60)).await;
    assert_eq!(client.state().current(), State::Connecting);
    broker.start();
    connecting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_gives_the_attempt_up() {
    let broker = MemoryBroker::new();
    broker.freeze();
    let client = client_with(&broker, config("svc").connect_retry(true));
    assert!(tokio::time::timeout(secs(1), client.connect()).await.is_err());
    client.state().until(State::Created).await;
    broker.thaw();
    client.connect().await.unwrap();
    assert_eq!(broker.connections(), ["svc"]);
}

#[tokio::test(start_paused = true)]
async fn everything_is_not_connected_before_the_first_connect() {
    let broker = MemoryBroker::new();
    let client = client_with(&broker, config("svc").enable_health(true));
    let kinds = [
        client.publish("a", "x").await.unwrap_err().kind(),
        client
            .publish("a", "x")
            .qos(tars_mqtt::QoS::AtLeastOnce)
            .await
            .unwrap_err()
            .kind(),
        client.publish_health(true).await.unwrap_err().kind(),
        client
            .subscribe("a", async |_: bytes::Bytes| ())
            .await
            .unwrap_err()
            .kind(),
        client.unsubscribe("a").await.unwrap_err().kind(),
        client.disconnect().await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::NotConnected; 6]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_without_disconnect_so_that_the_will_speaks() {
    let broker = MemoryBroker::new();
    let client = crate::connected_with(&broker, config("svc").enable_health(true)).await;
    let other = client.clone();
    drop(client);
    crate::settle().await;
    assert_eq!(broker.connections(), ["svc"]);
    drop(other);
    broker.wait_until(|broker| broker.connections().is_empty()).await;
    let will = broker.retained("system/health/svc").unwrap();
    assert!(
        crate::payload_text(&will.payload)
            .contains(r#""data":{"ok":false,"event":"offline","error":"connection lost""#)
    );
}

#[tokio::test(start_paused = true)]
async fn many_clients_share_a_broker() {
    let broker = MemoryBroker::new();
    let mut clients = Vec::new();
    for n in 0..50 {
        clients.push(connected(&broker, &format!("svc-{n}")).await);
    }
    assert_eq!(broker.connections().len(), 50);
}
