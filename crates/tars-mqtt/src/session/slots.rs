//! Several routes under one filter, each in a slot of its own (SPEC 5.2a).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tars_ports::{ErrorKind, QoS};
use tars_testkit::memory::{MemoryBroker, OverlapMode};

use crate::dispatch::Slot;
use crate::{Client, Config, InboundMessage, Route};

type Seen = Arc<Mutex<Vec<&'static str>>>;

const EVENT: Slot = Slot::Event(std::borrow::Cow::Borrowed("stt.final"));

async fn connected(broker: &MemoryBroker) -> Client {
    let config = Config::builder().url("mqtt://memory").client_id("svc").build().unwrap();
    let client = Client::builder(config).connector(broker.connector()).build().unwrap();
    client.connect().await.unwrap();
    client
}

fn route(seen: &Seen, name: &'static str, slot: Slot) -> Route {
    let seen = seen.clone();
    let handler = move |_: InboundMessage| {
        seen.lock().unwrap().push(name);
        async {}
    };
    Route::new("a", handler).in_slot(slot)
}

/// Lets everything run that can, and gives what was seen since the last time, sorted.
async fn seen_now(seen: &Seen) -> Vec<&'static str> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut names = std::mem::take(&mut *seen.lock().unwrap());
    names.sort_unstable();
    names
}

async fn publish(client: &Client) {
    let event = serde_json::json!({"n": 1});
    client
        .publish_event("a", "t", &event)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_slot_runs_once_and_is_replaced_by_its_like_only() {
    for mode in [OverlapMode::OneCopy, OverlapMode::CopyPerFilter] {
        let broker = MemoryBroker::new().with_overlap(mode);
        let (client, seen) = (connected(&broker).await, Seen::default());
        for (name, slot) in [
            ("replaced", Slot::User),
            ("user", Slot::User),
            ("event", EVENT),
            ("other event", Slot::Event("stt.partial".into())),
            ("own", Slot::Own(1)),
        ] {
            client
                .subscribe_route(route(&seen, name, slot).qos(QoS::AtLeastOnce))
                .await
                .unwrap();
        }
        for _ in 0..3 {
            publish(&client).await;
        }
        let mut expected = ["event", "other event", "own", "user"].repeat(3);
        expected.sort_unstable();
        assert_eq!(seen_now(&seen).await, expected, "{mode:?}");
        assert_eq!(broker.backlog("svc"), (0, 0), "{mode:?}: every copy is acknowledged");
        assert_eq!(client.stats().copies, 0, "one filter, one copy");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_leaves_the_wire_with_its_last_route() {
    let broker = MemoryBroker::new();
    let (client, seen) = (connected(&broker).await, Seen::default());
    let (event, _) = client.subscribe_route(route(&seen, "event", EVENT)).await.unwrap();
    client.subscribe_route(route(&seen, "user", Slot::User)).await.unwrap();
    let (own, _) = client.subscribe_route(route(&seen, "own", Slot::Own(1))).await.unwrap();

    let filter = "a".parse().unwrap();
    client.unsubscribe_route(filter, Some(event)).await.unwrap();
    publish(&client).await;
    assert_eq!(seen_now(&seen).await, ["own", "user"]);

    client.unsubscribe("a").await.unwrap();
    publish(&client).await;
    assert_eq!(
        seen_now(&seen).await,
        ["own"],
        "the user's word does not reach the client's own"
    );
    assert_eq!(broker.subscriptions("svc").len(), 1);

    let filter = "a".parse().unwrap();
    client.unsubscribe_route(filter, Some(own)).await.unwrap();
    assert_eq!(broker.subscriptions("svc"), []);
}

#[tokio::test(start_paused = true)]
async fn a_filter_is_on_the_wire_at_the_highest_qos_of_its_routes() {
    let broker = MemoryBroker::new();
    let (client, seen) = (connected(&broker).await, Seen::default());
    let on_the_wire = || {
        broker
            .subscriptions("svc")
            .iter()
            .map(|(_, qos)| *qos)
            .collect::<Vec<_>>()
    };
    client.subscribe_route(route(&seen, "user", Slot::User)).await.unwrap();
    assert_eq!(on_the_wire(), [QoS::AtMostOnce]);
    let event = route(&seen, "event", EVENT).qos(QoS::AtLeastOnce);
    client.subscribe_route(event).await.unwrap();
    assert_eq!(on_the_wire(), [QoS::AtLeastOnce]);
    client.subscribe_route(route(&seen, "user", Slot::User)).await.unwrap();
    assert_eq!(on_the_wire(), [QoS::AtLeastOnce]);

    broker.cut("svc");
    client.state().until(crate::State::Reconnecting).await;
    client.state().until(crate::State::Connected).await;
    publish(&client).await;
    assert_eq!(seen_now(&seen).await, ["event", "user"], "all come back");
    assert_eq!(on_the_wire(), [QoS::AtLeastOnce]);
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_retained_messages_asks_the_broker_only_where_it_must() {
    let broker = MemoryBroker::new();
    let (client, seen) = (connected(&broker).await, Seen::default());
    client.publish("a", "kept").retain(true).await.unwrap();
    client.subscribe_route(route(&seen, "user", Slot::User)).await.unwrap();
    assert_eq!(seen_now(&seen).await, ["user"]);

    let quiet = |name, slot| {
        let mut route = route(&seen, name, slot);
        route.options.replay = false;
        route
    };
    client.subscribe_route(quiet("own", Slot::Own(1))).await.unwrap();
    assert_eq!(
        seen_now(&seen).await,
        [""; 0],
        "no SUBSCRIBE, so nothing was sent again"
    );
    client.subscribe_route(route(&seen, "event", EVENT)).await.unwrap();
    assert_eq!(seen_now(&seen).await, ["event", "own", "user"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_takes_back_only_what_asked() {
    let broker = MemoryBroker::new();
    let (client, seen) = (connected(&broker).await, Seen::default());
    client.subscribe_route(route(&seen, "user", Slot::User)).await.unwrap();
    broker.refuse_filter("a");
    let refused = client.subscribe_route(route(&seen, "event", EVENT)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SubscriptionRefused);
    publish(&client).await;
    assert_eq!(seen_now(&seen).await, ["user"]);
}
