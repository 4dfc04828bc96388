//! A service, and its tests: with a broker in memory and with a fake, both without a socket
//! and without a second of waiting.
//!
//! ```sh
//! cargo test -p tars-mqtt --features testing --example testing_a_service
//! cargo run  -p tars-mqtt --features testing --example testing_a_service
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tars_mqtt::layers::{EventPublisher, Events, LayerExt};
use tars_mqtt::ports::Publisher;
use tars_mqtt::testing::{self, TestBroker};
use tars_mqtt::{Client, Envelope, Error, QoS};
use tokio::sync::watch;
use tokio::time::timeout;

const SILENCE: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct Reading {
    celsius: f64,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Command {
    on: bool,
}

/// What the service decides. It needs something that publishes, and no client.
struct Fan<P> {
    events: EventPublisher<P>,
    above: f64,
}

impl<P: Publisher> Fan<P> {
    async fn decide(&self, reading: &Reading) -> Result<(), Error> {
        let command = Command {
            on: reading.celsius > self.above,
        };
        let event = self.events.publish_event("fan/command", "fan.command", &command);
        event.qos(QoS::AtLeastOnce).await.map(|_| ())
    }
}

/// The service: a fan for a room, and a word when the thermometer falls silent.
async fn serve(client: Client) -> Result<(), Error> {
    let fan = Arc::new(Fan {
        events: client.clone().layer(Events::new("thermostat")),
        above: 25.0,
    });
    let (heard, mut readings) = watch::channel(());
    let handler = move |reading: Envelope<Reading>| {
        let fan = fan.clone();
        heard.send_replace(());
        async move { fan.decide(&reading.data).await }
    };
    client
        .subscribe("room/temperature", handler)
        .qos(QoS::AtLeastOnce)
        .await?;
    client.publish_health(true).event("ready").await?;
    loop {
        if timeout(SILENCE, readings.changed()).await.is_err() {
            let data = json!({"seconds": SILENCE.as_secs()});
            let event = client.publish_event("thermostat/silent", "thermostat.silent", &data);
            event.qos(QoS::AtLeastOnce).await?;
        }
    }
}

/// Here it runs on the same broker in memory, so that it needs nothing.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let broker = TestBroker::new();
    let client = testing::connect(&broker, "thermostat").await;
    let service = tokio::spawn(serve(client.clone()));
    for celsius in [21.0, 26.5] {
        broker
            .publish_event("room/temperature", "room.temperature", &Reading { celsius })
            .await;
    }
    for command in broker.events::<Command>("fan/command", 2).await {
        println!("{} from {}: {:?}", command.event_type, command.source, command.data);
    }
    service.abort();
    client.shutdown().await;
    println!("testing_a_service: ok");
    Ok(())
}

#[cfg(test)]
mod tests {
    use tars_mqtt::testing::mock::MockPublisher;
    use tars_mqtt::{ErrorKind, Message, Receipt};

    use super::*;

    /// The service on a broker of its own; it ends with the test.
    async fn started() -> (TestBroker, Client) {
        let broker = TestBroker::new();
        let config = testing::config("thermostat").enable_health(true);
        let client = testing::client(&broker, config);
        client.connect().await.unwrap();
        tokio::spawn(serve(client.clone()));
        assert!(broker.health("thermostat", "ready").await.ok);
        (broker, client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_warm_room_turns_the_fan_on() {
        let (broker, _client) = started().await;
        let reading = Reading { celsius: 25.5 };
        broker
            .publish_event("room/temperature", "room.temperature", &reading)
            .await;
        let command: Envelope<Command> = broker.event("fan/command").await;
        assert_eq!(command.data, Command { on: true });
        assert_eq!(command.source, "thermostat");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_minutes_without_a_reading_are_reported() {
        let (broker, _client) = started().await;
        // Paused time: the clock jumps when there is nothing else to do.
        tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
        assert_eq!(broker.events::<tars_mqtt::Data>("thermostat/silent", 0).await.len(), 0);
        let silent: Envelope = broker.event("thermostat/silent").await;
        assert_eq!(silent.data["seconds"], 600);
    }

    #[tokio::test(start_paused = true)]
    async fn it_survives_a_cut_link() {
        let (broker, client) = started().await;
        broker.cut("thermostat");
        assert_eq!(
            broker.health("thermostat", "offline").await.error.as_deref(),
            Some("connection lost")
        );
        broker.health("thermostat", "reconnected").await;
        broker
            .publish_event("room/temperature", "room.temperature", &Reading { celsius: 30.0 })
            .await;
        assert!(broker.event::<Command>("fan/command").await.data.on);
        client.shutdown().await;
        assert!(!broker.health("thermostat", "shutdown").await.ok);
    }

    #[tokio::test]
    async fn the_decision_alone_with_a_fake() {
        let mut publisher = MockPublisher::new();
        let off = |message: &Message| message.payload.ends_with(br#""data":{"on":false}}"#);
        publisher
            .expect_try_publish()
            .withf(off)
            .times(1)
            .returning(|_| Ok(Receipt::settled()));
        let events = publisher.layer(Events::new("thermostat"));
        let fan = Fan { events, above: 25.0 };
        fan.decide(&Reading { celsius: 25.0 }).await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_publish_is_the_services_error() {
        let mut publisher = MockPublisher::new();
        let lost = |_| {
            let (settler, receipt) = Receipt::pair();
            settler.settle(Err(Error::new(ErrorKind::ConnectionLost, "the link was cut")));
            Ok(receipt)
        };
        publisher.expect_try_publish().returning(lost);
        let events = publisher.layer(Events::new("thermostat"));
        let error = Fan { events, above: 25.0 }
            .decide(&Reading { celsius: 30.0 })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    }
}
