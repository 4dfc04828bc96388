//! The right culprit for each thing that can be in the way.

use serde_json::Value;
use tars_mqtt::LifecycleEvent;
use tars_testkit::mosquitto::Mosquitto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{Ended, Tars, connected, service};

const NOBODY: &str = "tars-no-such-host.invalid";

/// The step that failed, and what was said of it.
pub(crate) async fn diagnosed(tars: Tars) -> (i32, String, String) {
    let Ended { code, out, err } = tars.variable("MQTT_CLIENT_ID", "brain").run().await;
    assert_eq!(err, "");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["exit_code"], code);
    let steps = report["steps"].as_array().unwrap();
    let last = steps.last().unwrap();
    // All before it went well, and it is the one that is named.
    assert!(
        steps[..steps.len() - 1].iter().all(|step| step["outcome"] == "ok"),
        "{report:#}"
    );
    assert_eq!(
        report["failed"],
        if code == 0 { Value::Null } else { last["step"].clone() }
    );
    if code != 0 {
        assert!(!last["check"].as_array().unwrap().is_empty(), "{last:#}");
    }
    let step = last["step"].as_str().unwrap().to_owned();
    (code, step, format!("{} {}", last["said"], last["check"]))
}

async fn diagnosed_at(broker: &Mosquitto, arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<_> = ["doctor", "--json"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    diagnosed(Tars::at(broker, &arguments)).await
}

fn on_port(port: u16, arguments: &[&str]) -> Tars {
    let arguments: Vec<_> = ["doctor", "--json"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    Tars::new(&arguments).variable("MQTT_URL", &format!("mqtt://127.0.0.1:{port}"))
}

#[tokio::test]
async fn nothing_is_in_the_way() {
    let broker = Mosquitto::builder().password("brain", "p@ss").start().await.unwrap();
    let url = format!("mqtt://brain:p%40ss@127.0.0.1:{}", broker.port());
    let tars = Tars::new(&["doctor", "--payload", "300k"])
        .variable("MQTT_URL", &url)
        .variable("MQTT_CLIENT_ID", "brain");
    let Ended { code, out, err } = tars.run().await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let steps: Vec<_> = out.lines().filter(|line| line.starts_with("ok")).collect();
    assert_eq!(steps.len(), 8, "{out}");
    assert!(
        steps[3].contains("CONNECT") && steps[3].contains("brain-doctor-"),
        "{out}"
    );
    assert!(steps[6].contains("307200 bytes"), "{out}");
    assert!(
        !out.contains("p@ss") && !out.contains("p%40ss"),
        "the password stays secret: {out}"
    );
    assert!(!out.contains('\u{1b}'), "no colours in a pipe");
}

#[tokio::test]
async fn the_variables_come_from_the_environment_and_env_files() {
    let broker = Mosquitto::start().await.unwrap();
    let tars = Tars::new(&["doctor"]);
    std::fs::write(
        tars.folder().join(".env"),
        format!("MQTT_URL={}\nMQTT_CLIENT_ID=ears\n", broker.url()),
    )
    .unwrap();
    let ended = tars.variable("MQTT_KEEPALLIVE", "3").run().await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(ended.out.contains("client id \"ears\""), "{}", ended.out);
    assert!(
        ended.out.contains("MQTT_KEEPALLIVE") && ended.out.contains("MQTT_KEEPALIVE"),
        "{}",
        ended.out
    );

    let tars = Tars::new(&["doctor"])
        .variable("MQTT_URL", "http://h")
        .variable("MQTT_KEEPALIVE", "soon");
    let ended = tars.run().await;
    assert_eq!(ended.code, 10);
    for name in ["MQTT_URL", "MQTT_CLIENT_ID", "MQTT_KEEPALIVE"] {
        assert!(ended.out.contains(name), "all at once: {}", ended.out);
    }
}

#[tokio::test]
async fn no_broker() {
    let mut broker = Mosquitto::start().await.unwrap();
    broker.stop().await.unwrap();
    let (code, step, said) = diagnosed_at(&broker, &[]).await;
    assert_eq!((code, step.as_str()), (12, "TCP"));
    assert!(
        said.contains("nobody listens on port") && said.contains("is the broker running"),
        "{said}"
    );
}

#[tokio::test]
async fn the_wrong_port_where_nobody_listens() {
    let broker = Mosquitto::start().await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    assert_ne!(closed, broker.port());
    let (code, step, said) = diagnosed(on_port(closed, &[])).await;
    assert_eq!((code, step.as_str()), (12, "TCP"));
    assert!(
        said.contains(&format!("is {closed} the broker's?")) || said.contains("does answer"),
        "{said}"
    );
}

#[tokio::test]
async fn the_wrong_port_where_something_else_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let (code, step, said) = diagnosed(on_port(port, &[])).await;
    assert_eq!((code, step.as_str()), (14, "CONNECT"));
    assert!(said.contains("what listens there is no MQTT broker"), "{said}");
    web.abort();
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (code, step, said) = diagnosed(on_port(port, &["--connect-timeout", "0.5"])).await;
    assert_eq!((code, step.as_str()), (14, "CONNECT"));
    assert!(said.contains("accepts and does not answer"), "{said}");
}

#[tokio::test]
async fn the_wrong_host_name() {
    let tars = Tars::new(&["doctor", "--json"]).variable("MQTT_URL", &format!("mqtt://{NOBODY}"));
    let (code, step, said) = diagnosed(tars).await;
    assert_eq!((code, step.as_str()), (11, "name lookup"));
    assert!(said.contains(NOBODY) && said.contains("is not known"), "{said}");
}

#[tokio::test]
async fn the_wrong_password_and_none_at_all() {
    let broker = Mosquitto::builder().password("brain", "right").start().await.unwrap();
    let tars = Tars::at(&broker, &["doctor", "--json"])
        .variable("MQTT_USERNAME", "brain")
        .variable("MQTT_PASSWORD", "left");
    let (code, step, said) = diagnosed(tars).await;
    assert_eq!((code, step.as_str()), (14, "CONNECT"));
    assert!(said.contains("brain") && said.contains("with this password"), "{said}");
    assert!(!said.contains("left"), "the password stays secret: {said}");

    let (code, _, said) = diagnosed_at(&broker, &[]).await;
    assert_eq!(code, 14);
    assert!(
        said.contains("wants a user and a password") && said.contains("MQTT_USERNAME"),
        "{said}"
    );
}

#[tokio::test]
async fn an_acl_that_drops_in_silence() {
    for (acl, topic) in [
        ("user brain\ntopic read tars/doctor/#\n", None),
        ("user brain\ntopic write tars/doctor/#\n", None),
        ("user brain\ntopic readwrite brain/#\n", Some("ears/scratch")),
    ] {
        let broker = Mosquitto::builder()
            .password("brain", "p")
            .acl(acl)
            .start()
            .await
            .unwrap();
        let mut arguments = vec!["doctor", "--json", "--echo-timeout", "0.5"];
        arguments.extend(topic.iter().flat_map(|topic| ["--topic", topic]));
        let tars = Tars::at(&broker, &arguments)
            .variable("MQTT_USERNAME", "brain")
            .variable("MQTT_PASSWORD", "p");
        let (code, step, said) = diagnosed(tars).await;
        assert_eq!((code, step.as_str()), (16, "publish and back"), "{acl}");
        assert!(
            said.contains("its ACL drops it") && said.contains("user \\\"brain\\\""),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_acl_is_no_obstacle_where_the_topic_is_allowed() {
    let acl = "user brain\ntopic readwrite brain/#\n";
    let broker = Mosquitto::builder()
        .password("brain", "p")
        .acl(acl)
        .start()
        .await
        .unwrap();
    let tars = Tars::at(&broker, &["doctor", "--json", "--topic", "brain/scratch"])
        .variable("MQTT_USERNAME", "brain")
        .variable("MQTT_PASSWORD", "p");
    assert_eq!(diagnosed(tars).await.0, 0);
}

#[tokio::test]
async fn the_packet_limit_of_the_broker() {
    let limited = Mosquitto::builder()
        .config_line("max_packet_size 10000")
        .start()
        .await
        .unwrap();
    assert_eq!(diagnosed_at(&limited, &["--payload", "9000"]).await.0, 0);
    let (code, step, said) = diagnosed_at(&limited, &["--payload", "20k"]).await;
    assert_eq!((code, step.as_str()), (17, "large message"));
    assert!(
        said.contains("closed the connection on a message of 20480 bytes"),
        "{said}"
    );
    assert!(said.contains("max_packet_size"), "{said}");
}

#[tokio::test]
async fn the_message_limit_of_the_broker() {
    let limited = Mosquitto::builder()
        .config_line("message_size_limit 10000")
        .start()
        .await
        .unwrap();
    let (code, step, said) = diagnosed_at(&limited, &["--payload", "20k", "--echo-timeout", "0.5"]).await;
    assert_eq!((code, step.as_str()), (17, "large message"));
    assert!(
        said.contains("drops what is above its limit") && said.contains("message_size_limit"),
        "{said}"
    );
}

#[tokio::test]
async fn the_packet_limit_of_one_s_own() {
    let broker = Mosquitto::start().await.unwrap();
    let tars = Tars::at(&broker, &["doctor", "--json", "--payload", "20k"]).variable("MQTT_MAX_PACKET_SIZE", "10000");
    let (code, step, said) = diagnosed(tars).await;
    assert_eq!((code, step.as_str()), (17, "large message"));
    assert!(
        said.contains("own limit of 10000 bytes") && said.contains("MQTT_MAX_PACKET_SIZE"),
        "{said}"
    );
}

#[tokio::test]
async fn a_client_id_that_another_client_has() {
    let broker = Mosquitto::start().await.unwrap();
    let brain = connected(service(&broker, "brain")).await;
    let (code, step, said) = diagnosed_at(&broker, &["--as-service"]).await;
    assert_eq!((code, step.as_str()), (18, "client id"));
    assert!(said.contains("another client connects with the id"), "{said}");
    brain.shutdown().await;
    let (code, ..) = diagnosed_at(&broker, &["--as-service", "--hold", "0.5"]).await;
    assert_eq!(code, 0, "nobody has it any more");
}

#[tokio::test]
async fn a_running_service_is_seen_and_left_alone() {
    let broker = Mosquitto::start().await.unwrap();
    let brain = connected(service(&broker, "brain").enable_health(true)).await;
    brain.publish_health(true).event("thinking").await.unwrap();
    let mut lifecycle = brain.lifecycle();
    let (code, _, said) = diagnosed_at(&broker, &[]).await;
    assert_eq!(code, 0);
    assert!(said.contains("is running") && said.contains("thinking"), "{said}");
    brain.shutdown().await;
    while let Some(event) = lifecycle.next().await {
        assert!(
            !matches!(event, LifecycleEvent::ConnectionLost { .. }),
            "it was thrown out"
        );
        if matches!(event, LifecycleEvent::Shutdown) {
            break;
        }
    }
    let (_, _, said) = diagnosed_at(&broker, &[]).await;
    assert!(said.contains("nobody runs as") && said.contains("shutdown"), "{said}");
}

#[tokio::test]
async fn a_kept_session_is_not_emptied_by_accident() {
    let broker = Mosquitto::start().await.unwrap();
    let tars = Tars::at(&broker, &["doctor", "--as-service"])
        .variable("MQTT_CLIENT_ID", "brain")
        .variable("MQTT_CLEAN_SESSION", "false");
    let ended = tars.run().await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("they would be lost to it"), "{}", ended.err);
}
