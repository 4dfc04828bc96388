//! The files of docs/deploy: what they say is so.

use std::sync::{Arc, Mutex};

use tars_mqtt::{InboundMessage, QoS};
use tars_testkit::mosquitto::Mosquitto;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::{PATIENCE, Tars, connected, service};

const ACL: &str = include_str!("../../../../docs/deploy/mosquitto/acl");
const COMPOSE: &str = include_str!("../../../../docs/deploy/compose.yaml");
const UNIT: &str = include_str!("../../../../docs/deploy/tars-ears.service");
const VARIABLES: &str = include_str!("../../../../docs/configuration.md");

#[test]
fn every_variable_in_them_exists() {
    for text in [COMPOSE, UNIT] {
        let words = text.split(|character: char| !character.is_ascii_uppercase() && character != '_');
        let names: Vec<_> = words.filter(|word| word.starts_with("MQTT_")).collect();
        assert!(names.contains(&"MQTT_PASSWORD_FILE"));
        for name in names {
            assert!(VARIABLES.contains(&format!("`{name}`")), "{name}");
        }
    }
}

#[tokio::test]
async fn the_acl_lets_a_service_do_its_own_work_and_nobody_else_s() {
    let broker = Mosquitto::builder().password("ears", "e").password("ops", "o").acl(ACL);
    let broker = broker.start().await.unwrap();
    let login = |user: &str, password: &str| service(&broker, user).username(user).password(password);
    let ops = connected(login("ops", "o")).await;
    let (seen, last) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let (topics, end) = (seen.clone(), last.clone());
    let note = move |message: InboundMessage| {
        if message.topic.as_str() == "stt/last" {
            end.notify_one();
        }
        topics.lock().unwrap().push(message.topic.to_string());
        std::future::ready(())
    };
    ops.subscribe("#", note).qos(QoS::AtLeastOnce).await.unwrap();

    let ears = connected(login("ears", "e").enable_health(true).enable_heartbeat(true)).await;
    ears.publish_health(true).event("ready").await.unwrap();
    for topic in [
        "system/health/brain",
        "system/keepalive/brain",
        "llm/prompt",
        "stt/last",
    ] {
        ears.publish(topic, "x").qos(QoS::AtLeastOnce).await.unwrap();
    }
    timeout(PATIENCE, last.notified()).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen.iter()
            .all(|topic| ["system/health/ears", "system/keepalive/ears", "stt/last"].contains(&topic.as_str())),
        "{seen:?}"
    );
    assert!(seen.iter().any(|topic| topic == "system/health/ears"), "{seen:?}");

    for (user, password) in [("ears", "e"), ("ops", "o")] {
        let doctor = Tars::at(&broker, &["doctor"]).variable("MQTT_CLIENT_ID", user);
        let doctor = doctor
            .variable("MQTT_USERNAME", user)
            .variable("MQTT_PASSWORD", password);
        let ended = doctor.run().await;
        assert_eq!(ended.code, 0, "{}", ended.out);
        assert!(
            user == "ops" || ended.out.contains("\"ears\" is running"),
            "{}",
            ended.out
        );
    }
    ears.shutdown().await;
    ops.shutdown().await;
}
