//! Corners of health, publishing, handlers and the life cycle that a review found.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tars_mqtt::ports::{Publisher, TryPublishError};
use tars_mqtt::{
    Client, Context, Envelope, Error, ErrorKind, Fate, InboundMessage, LifecycleEvent, Message, OnFailure, QoS, Route,
    State,
};
use tars_testkit::memory::MemoryBroker;

use crate::lesser_adapters::slow;
use crate::replacing::counting;
use crate::{Seen, client_with, config, connected, connected_with, payload_text, secs, settle};

fn listener(seen: &Seen, name: &'static str) -> impl tars_mqtt::Handler<(InboundMessage,)> + use<> {
    let seen = seen.clone();
    move |message: InboundMessage| {
        seen.push(format!("{name} {}", payload_text(&message.payload)));
        async {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_fits_no_packet_is_its_callers_error_and_holds_nobody_up() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_health(true).max_packet_size(1024);
    let client = connected_with(&broker, config).await;
    let begin = tokio::time::Instant::now();
    let error = client.publish_health(false).error("x".repeat(2000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    client.publish("a", "x").qos(QoS::AtLeastOnce).await.unwrap();
    assert!(begin.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn where_not_even_the_first_status_fits_publishing_goes_on() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_health(true).max_packet_size(128);
    let client = connected_with(&broker, config).await;
    client
        .publish("a", "x")
        .qos(QoS::AtLeastOnce)
        .timeout(secs(5))
        .await
        .unwrap();
    let begin = tokio::time::Instant::now();
    client.shutdown().await;
    assert!(begin.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn while_shutting_down_nobody_declares_the_service_healthy_again() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").enable_health(true)).await;
    let seen = Seen::default();
    slow(&client, &seen).await;
    let told = tokio::spawn({
        let client = client.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            client.publish_health(true).event("fine").await
        }
    });
    client.shutdown().await;
    assert_eq!(told.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    let last = payload_text(&broker.retained("system/health/svc").unwrap().payload);
    assert!(last.contains(r#""event":"shutdown""#), "{last}");
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_health_is_closed_too_be_it_on_or_off() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client.shutdown().await;
    let error = client.publish_health(true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_room_is_not_taken_in_after_a_disconnect() {
    let broker = MemoryBroker::new();
    let config = config("svc").outbox_messages(1).shutdown_timeout(secs(1));
    let client = connected_with(&broker, config).await;
    broker.freeze();
    let first = tokio::spawn(client.publish("a", "1").qos(QoS::AtLeastOnce).into_future());
    settle().await;
    let second = tokio::spawn(client.publish("a", "2").qos(QoS::AtLeastOnce).into_future());
    settle().await;
    client.disconnect().await.unwrap();
    settle().await;
    let first = first.await.unwrap().unwrap_err();
    assert_eq!(
        (first.kind(), first.fate()),
        (ErrorKind::NotConnected, Some(Fate::Unknown))
    );
    assert!(second.is_finished());
    let second = second.await.unwrap().unwrap_err();
    assert_eq!(
        (second.kind(), second.fate()),
        (ErrorKind::NotConnected, Some(Fate::NotSent))
    );
    broker.thaw();
    client.connect().await.unwrap();
    client.publish("a", "3").qos(QoS::AtLeastOnce).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_in_messages_is_no_room_where_the_bytes_are_used_up() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").outbox_bytes(1000)).await;
    broker.freeze();
    let message = |bytes| Message::new("a".parse().unwrap(), vec![0; bytes]).with_qos(QoS::AtLeastOnce);
    let _first = client.try_publish(message(600)).unwrap();
    assert!(matches!(
        client.try_publish(message(600)),
        Err(TryPublishError::Full(_))
    ));
    assert!(client.ready(QoS::AtLeastOnce).now_or_never().is_none(), "it would spin");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.ready(QoS::AtLeastOnce).await }
    });
    settle().await;
    broker.thaw();
    waiting.await.unwrap().unwrap();
    let _second = client.try_publish(message(600)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_time_without_end_is_no_panic() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .publish("a", "x")
        .qos(QoS::AtLeastOnce)
        .timeout(Duration::MAX)
        .await
        .unwrap();
    let seen = Seen::default();
    client
        .subscribe("b", listener(&seen, "b"))
        .timeout(Duration::MAX)
        .on_failure(OnFailure::retry(1, Duration::MAX))
        .await
        .unwrap();
    client.publish("b", "x").timeout(Duration::MAX).await.unwrap();
    seen.reach(1).await;
}

#[tokio::test(start_paused = true)]
async fn every_failed_publish_names_its_topic_and_its_fate() {
    let broker = MemoryBroker::new();
    let client = connected_with(&broker, config("svc").max_packet_size(200)).await;
    let mut errors = Vec::new();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        errors.push(client.publish("the/topic", vec![0; 300]).qos(qos).await.unwrap_err());
    }
    client.shutdown().await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        errors.push(client.publish("the/topic", "x").qos(qos).await.unwrap_err());
        let message = Message::new("the/topic".parse().unwrap(), "x").with_qos(qos);
        match client.try_publish(message) {
            Err(TryPublishError::Failed(error)) => errors.push(error),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.stats().publish_failed, errors.len() as u64);
    for error in errors {
        assert_eq!(error.fate(), Some(Fate::NotSent), "{error:?}");
        assert!(error.to_string().contains("the/topic"), "{error:?}");
    }
}

#[test]
fn when_the_runtime_of_the_session_is_gone_nobody_waits_for_ever() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let broker = MemoryBroker::new();
    let (gone, other) = (runtime(), runtime());
    let client = gone.block_on(connected(&broker, "svc"));
    broker.freeze();
    let accepted = client.publish("a", "x").qos(QoS::AtLeastOnce).accepted();
    let receipt = gone.block_on(accepted).unwrap();
    gone.block_on(settle());
    drop(gone);
    other.block_on(async {
        let patience = |future| tokio::time::timeout(secs(5), future);
        let lost = patience(receipt.map(|result| result.map(drop)).boxed()).await;
        assert_eq!(lost.unwrap().unwrap_err().fate(), Some(Fate::Unknown));
        let late = client.publish("a", "x").qos(QoS::AtLeastOnce).into_future();
        let late = patience(late.boxed()).await;
        assert_eq!(late.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.state().current(), State::Disconnected);
    });
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_writes_out_what_was_taken_over() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    broker.freeze();
    let mut taken = 0;
    // As much as the broker's socket takes without reading, and some more.
    while let Some(Ok(())) = client.publish("a", "x").into_future().now_or_never() {
        taken += 1;
        if taken % 100 == 0 {
            settle().await;
        }
    }
    let ending = tokio::spawn({
        let client = client.clone();
        async move { client.shutdown().await }
    });
    tokio::time::sleep(secs(3)).await;
    broker.thaw();
    let report = ending.await.unwrap();
    assert!(report.disconnected, "{report:?}");
    assert_eq!(broker.published().len(), taken);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_hook_harms_nobody() {
    let broker = MemoryBroker::new();
    let client = Client::builder(config("svc").build().unwrap())
        .connector(broker.connector())
        .on_invalid(|_, _| panic!("as the test wants"))
        .build()
        .unwrap();
    client.connect().await.unwrap();
    let seen = Seen::default();
    let handled = seen.clone();
    client
        .subscribe("a", move |event: Envelope<serde_json::Value>| {
            handled.push(event.data);
            async {}
        })
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    client.publish("a", "no envelope").qos(QoS::AtLeastOnce).await.unwrap();
    client
        .publish_event("a", "t", &json!({"n": 1}))
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    assert_eq!(seen.reach(1).await, [r#"{"n":1}"#]);
    settle().await;
    assert_eq!(broker.backlog("svc"), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_end_the_client() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    client
        .subscribe("stop", async |context: Context| {
            if let Some(client) = context.client() {
                client.shutdown().await;
            }
        })
        .await
        .unwrap();
    client.publish("stop", "x").await.unwrap();
    client.state().until(State::Disconnected).await;
    assert_eq!(client.shutdown().await.handlers_cut_off, 1);
    assert!(broker.connections().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_scope_notices_a_lost_link_after_it_disconnected_and_connected_again() {
    let broker = MemoryBroker::new();
    let client = client_with(&broker, config("svc").reconnect(false));
    let cutting = broker.clone();
    let scope = client.run_until(async |client: Client| {
        client.disconnect().await?;
        client.connect().await?;
        cutting.cut("svc");
        std::future::pending::<Result<(), Error>>().await
    });
    let ended = tokio::time::timeout(secs(10), scope).await.expect("it ends");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionLost);
}

#[tokio::test(start_paused = true)]
async fn disconnecting_from_many_tasks_and_shutting_down_meanwhile() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let seen = Seen::default();
    slow(&client, &seen).await;
    let disconnects = (0..3).map(|_| client.disconnect()).collect::<Vec<_>>();
    let (reports, last) = tokio::join!(futures_util::future::join_all(disconnects), client.shutdown());
    assert_eq!(seen.len(), 3);
    assert!(last.disconnected);
    assert!(reports.into_iter().all(|report| report.unwrap() == last));
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn many_rounds_of_connect_and_disconnect_leave_one_worker() {
    let broker = MemoryBroker::new();
    let client = connected(&broker, "svc").await;
    let (running, peak) = (Arc::default(), Arc::default());
    client.subscribe("a", counting(&running, &peak)).await.unwrap();
    for _ in 0..5 {
        client.disconnect().await.unwrap();
        client.connect().await.unwrap();
    }
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    for _ in 0..5 {
        client.publish("a", "x").await.unwrap();
    }
    tokio::time::sleep(secs(10)).await;
    assert_eq!((client.stats().handled, peak.load(Ordering::SeqCst)), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_route_of_the_builder_gets_what_waited_in_the_session_and_is_restored() {
    let broker = MemoryBroker::new();
    let persistent = || config("svc").clean_session(false);
    let first = connected_with(&broker, persistent()).await;
    first
        .subscribe("job/+", async |_: InboundMessage| ())
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    first.shutdown().await;
    broker.publish(Message::new("job/1".parse().unwrap(), "waited").with_qos(QoS::AtLeastOnce));
    let seen = Seen::default();
    let second = Client::builder(persistent().build().unwrap())
        .connector(broker.connector())
        .route(Route::new("job/+", listener(&seen, "job")).qos(QoS::AtLeastOnce))
        .build()
        .unwrap();
    second.connect().await.unwrap();
    assert_eq!(seen.reach(1).await, ["job waited"]);
    broker.restart(false);
    second.state().until(State::Reconnecting).await;
    broker
        .wait_until(|broker| !broker.subscriptions("svc").is_empty())
        .await;
    second.publish("job/2", "after").qos(QoS::AtLeastOnce).await.unwrap();
    assert_eq!(seen.reach(2).await[1], "job after");
}

#[tokio::test(start_paused = true)]
async fn a_flood_starves_neither_commands_nor_heartbeats() {
    let broker = MemoryBroker::new();
    let config = config("svc").enable_heartbeat(true).heartbeat_interval(secs(1));
    let client = connected_with(&broker, config).await;
    let seen = Seen::default();
    client.subscribe("flood", listener(&seen, "f")).await.unwrap();
    let flood = tokio::spawn({
        let broker = broker.clone();
        async move {
            loop {
                for _ in 0..200 {
                    broker.publish(Message::new("flood".parse().unwrap(), "x"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    for n in 0..20 {
        let filter = format!("other/{n}");
        let subscribe = client.subscribe(filter, async |_: InboundMessage| ()).into_future();
        tokio::time::timeout(secs(1), subscribe)
            .await
            .expect("in time")
            .unwrap();
    }
    tokio::time::sleep(secs(10)).await;
    assert!(client.stats().beats >= 10);
    flood.abort();
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn events_of_a_first_failure_and_of_a_retry_say_why() {
    let broker = MemoryBroker::new();
    broker.stop();
    let client = client_with(&broker, config("svc").connect_retry(true));
    let mut events = client.lifecycle();
    let connecting = tokio::spawn({
        let client = client.clone();
        async move { client.connect().await }
    });
    assert!(
        matches!(events.next().await, Some(LifecycleEvent::ConnectFailed { error }) if error.kind() == ErrorKind::Unreachable)
    );
    assert!(matches!(
        events.next().await,
        Some(LifecycleEvent::ReconnectScheduled { attempt: 1, .. })
    ));
    connecting.abort();
    client.state().until(State::Created).await;
}
