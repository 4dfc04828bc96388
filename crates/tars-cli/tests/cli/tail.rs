//! Reading along, and saying something: `tail`, `send`, `request`.

use serde_json::json;
use tars_mqtt::{Data, Envelope, Error, ErrorReply, QoS};
use tars_testkit::mosquitto::Mosquitto;

use crate::{Running, Tars, connected, service};

/// A tail that is known to be subscribed: the retained message has come.
async fn tailing(broker: &Mosquitto, arguments: &[&str]) -> Running {
    let marker = connected(service(broker, "marker")).await;
    let publish = marker
        .publish("here/marker", "ready")
        .retain(true)
        .qos(QoS::AtLeastOnce);
    publish.await.unwrap();
    marker.shutdown().await;
    let arguments: Vec<_> = ["tail", "here/#"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let mut tail = Tars::at(broker, &arguments).start();
    while !tail.line().await.contains("ready") {}
    tail
}

#[tokio::test]
async fn events_are_sent_and_shown() {
    let broker = Mosquitto::start().await.unwrap();
    let mut tail = tailing(&broker, &[]).await;
    let sent = ["send", "here/say", "tts.say", r#"{"text":"Grüße"}"#, "--source", "desk"];
    let sent = Tars::at(&broker, &sent).run().await;
    assert_eq!((sent.code, sent.err.as_str()), (0, ""));
    let id = sent.out.trim();
    let line = tail.line().await;
    assert!(
        line.ends_with(&format!("here/say tts.say desk {id} {{\"text\":\"Grüße\"}}")),
        "{line}"
    );

    let client = connected(service(&broker, "svc")).await;
    client.publish("here/raw", vec![0xff, 0x00]).await.unwrap();
    let line = tail.line().await;
    assert!(line.ends_with("here/raw 2 bytes 0xff00"), "{line}");
    assert_eq!(tail.unread().await, 0, "whoever read it has seen enough");
}

#[tokio::test]
async fn json_has_a_line_for_each() {
    let broker = Mosquitto::start().await.unwrap();
    let mut tail = tailing(&broker, &["--json", "--qos", "1"]).await;
    let sent = ["send", "here/say", "tts.say", "-", "--correlation-id", "7", "--retain"];
    let sent = Tars::at(&broker, &sent)
        .run_with(r#"{"text":"from stdin","n":[1,2]}"#)
        .await;
    assert_eq!((sent.code, sent.out.as_str()), (0, "7\n"));
    let line = tail.json_until(|_| true).await;
    assert_eq!(line["topic"], "here/say");
    assert_eq!(
        (&line["id"], &line["correlation_id"], &line["type"]),
        (&json!("7"), &json!("7"), &json!("tts.say"))
    );
    assert_eq!((&line["qos"], &line["retain"]), (&json!(1), &json!(false)));
    assert_eq!(line["data"], json!({"text": "from stdin", "n": [1, 2]}));

    let client = connected(service(&broker, "svc")).await;
    client.publish("here/raw", "plain").await.unwrap();
    assert_eq!(tail.json_until(|_| true).await["payload"], "plain");
    client.publish("here/raw", vec![0xab, 0xff]).await.unwrap();
    assert_eq!(tail.json_until(|_| true).await["payload_hex"], "abff");

    let kept = Tars::at(&broker, &["tail", "here/say", "--json", "-n", "1"])
        .run()
        .await;
    assert_eq!(kept.lines()[0]["retain"], true);
}

#[tokio::test]
async fn filters_leave_only_what_was_asked_for() {
    let broker = Mosquitto::start().await.unwrap();
    let client = connected(service(&broker, "svc")).await;
    let events = [
        ("stt.final", "ears", "1"),
        ("stt.partial", "ears", "2"),
        ("stt.final", "nose", "3"),
        ("tts.say", "ears", "4"),
    ];
    for (number, (kind, source, id)) in events.into_iter().enumerate() {
        let envelope = Envelope::new(kind, source, json!({})).with_correlation_id(id);
        let publish = client.publish(format!("here/{number}"), envelope.to_bytes().unwrap());
        publish.retain(true).qos(QoS::AtLeastOnce).await.unwrap();
    }
    client
        .publish("here/raw", "raw")
        .retain(true)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let table: [(&[&str], &[&str]); 5] = [
        (&["--type", "stt.final"], &["1", "3"]),
        (&["--type", "stt.*", "--source", "ears"], &["1", "2"]),
        (&["--source", "nose"], &["3"]),
        (&["--correlation-id", "4"], &["4"]),
        (&["--type", "stt.partial", "--type", "tts.say"], &["2", "4"]),
    ];
    for (filters, expected) in table {
        let count = expected.len().to_string();
        let mut arguments = vec!["tail", "here/#", "--json", "-n", &count];
        arguments.extend(filters);
        let ended = Tars::at(&broker, &arguments).run().await;
        let ids: Vec<_> = ended
            .lines()
            .iter()
            .map(|line| line["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids, expected, "{filters:?}");
    }
}

#[tokio::test]
async fn colours_are_for_those_who_want_them() {
    let broker = Mosquitto::start().await.unwrap();
    let client = connected(service(&broker, "svc")).await;
    client
        .publish("here/raw", "raw")
        .retain(true)
        .qos(QoS::AtLeastOnce)
        .await
        .unwrap();
    let tail = |arguments: &[&'static str]| {
        let arguments: Vec<_> = ["tail", "here/#", "-n", "1"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        Tars::at(&broker, &arguments)
    };
    assert!(tail(&["--color", "always"]).run().await.out.contains("\u{1b}["));
    assert!(
        tail(&[])
            .variable("CLICOLOR_FORCE", "1")
            .run()
            .await
            .out
            .contains("\u{1b}[")
    );
    let plain = [
        tail(&[]),
        tail(&[]).variable("NO_COLOR", "1"),
        tail(&["--color", "never"]),
    ];
    for tars in plain {
        assert!(!tars.run().await.out.contains('\u{1b}'));
    }
}

#[tokio::test]
async fn data_that_is_no_object_is_refused_before_connecting() {
    for data in ["[1]", "7", "{", "", "null"] {
        let ended = Tars::new(&["send", "a", "b", data]).run().await;
        assert_eq!(ended.code, 2, "{data}");
        assert!(ended.err.contains("no JSON object"), "{}", ended.err);
    }
    let broker = Mosquitto::start().await.unwrap();
    let ended = Tars::at(&broker, &["send", "a/#", "b", "{}"]).run().await;
    assert_eq!(ended.code, 2, "{}", ended.err);
}

#[tokio::test]
async fn a_request_prints_its_reply() {
    let broker = Mosquitto::start().await.unwrap();
    let memory = connected(service(&broker, "memory")).await;
    let search = async |query: Envelope<Data>| -> Result<Data, ErrorReply> {
        match query.data["text"].as_str() {
            Some("tea") => Ok(query.data),
            _ => Err(ErrorReply::new("not_found", "nothing about that")),
        }
    };
    let responding = memory.respond("memory/query", "memory/results", "memory.results", search);
    responding.await.unwrap();
    let ask = async |data: &str, more: &[&str]| {
        let first = [
            "request",
            "memory/query",
            "memory.query",
            data,
            "--reply-on",
            "memory/results",
        ];
        let arguments: Vec<_> = first.into_iter().chain(more.iter().copied()).collect();
        Tars::at(&broker, &arguments).run().await
    };
    let found = ask(r#"{"text":"tea"}"#, &[]).await;
    assert_eq!((found.code, found.out.as_str()), (0, "{\"text\":\"tea\"}\n"));
    let found = ask(r#"{"text":"tea"}"#, &["--envelope", "--correlation-id", "q1"]).await;
    assert_eq!(found.lines()[0]["id"], "q1");
    assert_eq!(found.lines()[0]["source"], "memory");
    let missing = ask(r#"{"text":"mud"}"#, &[]).await;
    assert_eq!((missing.code, missing.out.as_str()), (21, ""));
    assert!(
        missing.err.contains("not_found") && missing.err.contains("nothing about that"),
        "{}",
        missing.err
    );
    memory.shutdown().await;
    let late = ask("{}", &["--timeout", "0.3"]).await;
    assert_eq!(late.code, 20, "{}", late.err);
}

#[tokio::test]
async fn a_tail_outlives_its_broker() -> Result<(), Error> {
    let mut broker = Mosquitto::builder().persistence(true).start().await.unwrap();
    let mut tail = tailing(&broker, &["--json"]).await;
    broker.restart().await.unwrap();
    // It subscribes again, and so gets the retained message again.
    let again = tail.json_until(|line| line["retain"] == true).await;
    assert_eq!(again["payload"], "ready");
    Ok(())
}
