//! What a broker forbids, as far as MQTT 3.1.1 lets it be seen.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tars_mqtt::{Client, Context, Credentials, ErrorKind, QoS, Refusal, State};
use tars_testkit::mosquitto::Mosquitto;

use crate::support::seen::Seen;
use crate::support::{adapters, config, connected_with, started, within};

/// Grants everything but `secret/#`, and says so in SUBACK, as the access file does not.
const DYNAMIC: &str = r#"{
    "defaultACLAccess": {
        "publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true
    },
    "anonymousGroup": "all",
    "clients": [],
    "groups": [{"groupname": "all", "roles": [{"rolename": "careful"}]}],
    "roles": [{
        "rolename": "careful",
        "acls": [{"acltype": "subscribePattern", "topic": "secret/#", "priority": 0, "allow": false}]
    }]
}"#;

fn plugin() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    folders
        .map(|folder| folder.join("mosquitto_dynamic_security.so"))
        .find(|plugin| plugin.is_file())
        .expect("the plugin comes with Debian's mosquitto")
}

#[tokio::test]
async fn a_refused_subscription_is_the_callers_error() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.json");
    fs::write(&rules, DYNAMIC).unwrap();
    let builder = Mosquitto::builder()
        .config_line(format!("plugin {}", plugin().display()))
        .config_line(format!("plugin_opt_config_file {}", rules.display()));
    let broker = started(builder).await;
    for adapter in adapters() {
        let client = connected_with(config(&broker, "svc").adapter(adapter)).await;
        let refused = within(
            "SUBACK",
            client.subscribe("secret/plans", async |_: Context| {}).into_future(),
        )
        .await;
        let error = refused.expect_err("it is forbidden");
        assert_eq!(error.kind(), ErrorKind::SubscriptionRefused, "{adapter:?}");
        assert!(error.to_string().contains("0x80"), "{error}");
        // The connection goes on, and what is allowed is granted.
        client.subscribe("open/plans", async |_: Context| {}).await.unwrap();
        client.shutdown().await;
    }
}

/// Mosquitto's access file: SUBACK grants, PUBACK confirms, and nothing is delivered.
#[tokio::test]
async fn what_an_access_file_denies_mosquitto_denies_in_silence() {
    let builder = Mosquitto::builder().acl("topic readwrite open/#\n");
    let broker = started(builder).await;
    for adapter in adapters() {
        let client = connected_with(config(&broker, "svc").adapter(adapter)).await;
        let seen = Seen::default();
        for filter in ["secret/#", "open/#"] {
            let seen = seen.clone();
            let handler = move |context: Context| {
                seen.push(context.topic().to_string());
                std::future::ready(())
            };
            client.subscribe(filter, handler).await.unwrap();
        }
        for topic in ["secret/plan", "open/plan"] {
            let confirmed = client
                .publish_event(topic, "plan.made", &json!({}))
                .qos(QoS::AtLeastOnce);
            confirmed.await.unwrap();
        }
        // In order: what comes second shows that nothing came first.
        assert_eq!(seen.reach(1).await, ["open/plan"], "{adapter:?}");
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_token_is_asked_for_at_each_connect() {
    let mut broker = started(Mosquitto::builder().password("svc", "t0ken")).await;
    for adapter in adapters() {
        let asked = Seen::default();
        let provider = {
            let asked = asked.clone();
            move || {
                asked.push(());
                std::future::ready(Ok(Credentials::new("svc", Some("t0ken".into()))))
            }
        };
        let config = config(&broker, "svc")
            .adapter(adapter)
            .username("svc")
            .password("stale");
        let client = Client::builder(config.build().unwrap())
            .credentials(provider)
            .build()
            .unwrap();
        within("connecting", client.connect()).await.unwrap();
        assert_eq!(asked.all().len(), 1);
        broker.restart().await.unwrap();
        asked.reach(2).await;
        within("connected again", client.state().until(State::Connected)).await;
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_callers_error() {
    let broker = started(Mosquitto::builder().password("svc", "right")).await;
    for adapter in adapters() {
        let config = config(&broker, "svc")
            .adapter(adapter)
            .username("svc")
            .password("wrong");
        let client = Client::new(config.build().unwrap()).unwrap();
        let error = within("connecting", client.connect()).await.err().unwrap();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Refused(Refusal::NotAuthorized | Refusal::BadCredentials)
            ),
            "{error:?}"
        );
    }
}
