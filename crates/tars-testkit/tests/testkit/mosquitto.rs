//! The real process: started, stopped, killed, paused. What it does is seen through
//! the scripted packets and a bare socket.

use std::io::ErrorKind;
use std::time::Duration;

use tars_testkit::mosquitto::{Mosquitto, MosquittoError};
use tars_testkit::scripted::packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(10);

/// A client that knows CONNECT, SUBSCRIBE and PUBLISH.
struct Client(TcpStream);

impl Client {
    async fn dial(port: u16) -> std::io::Result<Self> {
        Ok(Self(TcpStream::connect(("127.0.0.1", port)).await?))
    }

    /// CONNECT with a persistent session; the two bytes of the CONNACK.
    async fn connect(&mut self, id: &str, login: Option<(&str, &str)>) -> [u8; 2] {
        let mut body = packet::text("MQTT");
        body.extend([4, if login.is_some() { 0xc0 } else { 0 }, 0, 60]);
        body.extend(packet::text(id));
        if let Some((user, password)) = login {
            body.extend(packet::text(user));
            body.extend(packet::text(password));
        }
        self.send(&packet::raw(packet::CONNECT, &body)).await;
        let (first, body) = self.read().await;
        assert_eq!(first, packet::CONNACK);
        [body[0], body[1]]
    }

    async fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 1];
        body.extend(packet::text(filter));
        body.push(1);
        self.send(&packet::raw(packet::SUBSCRIBE | 2, &body)).await;
        let (first, body) = self.read().await;
        assert_eq!(first, packet::SUBACK);
        body[2]
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
    }

    async fn read(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await.expect("a packet");
            let length = self.0.read_u8().await.expect("its length");
            assert!(length < 128, "these tests send small packets");
            let mut body = vec![0; usize::from(length)];
            self.0.read_exact(&mut body).await.expect("its body");
            (first, body)
        };
        timeout(WITHIN, read).await.expect("the broker answers in time")
    }
}

#[tokio::test]
async fn persistence_survives_a_stop_on_the_same_port() {
    let mut broker = Mosquitto::builder().persistence(true).start().await.expect("it starts");
    let port = broker.port();
    assert_eq!(broker.url(), format!("mqtt://127.0.0.1:{port}"));
    let mut client = Client::dial(port).await.expect("it listens");
    assert_eq!(client.connect("p", None).await, [0, 0]);
    assert_eq!(client.subscribe("t").await, 1);
    broker.stop().await.expect("it stops");
    broker.stop().await.expect("a second time is no error");
    assert!(!broker.is_running());
    let error = Client::dial(port).await.err().expect("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    for _ in 0..3 {
        broker.restart().await.expect("it starts on the same port");
        let mut client = Client::dial(port).await.expect("it listens");
        assert_eq!(client.connect("p", None).await, [1, 0], "the session was kept");
    }
    assert!(broker.log().contains("p (p2, c0, k60)"), "{}", broker.log());
}

#[tokio::test]
async fn a_kill_is_sudden_and_loses_what_was_not_saved() {
    let mut broker = Mosquitto::builder().persistence(true).start().await.expect("it starts");
    let mut client = Client::dial(broker.port()).await.expect("it listens");
    client.connect("p", None).await;
    client.subscribe("t").await;
    broker.kill().await.expect("it dies");
    broker.start_again().await.expect("it starts on the same port");
    broker.start_again().await.expect("a running one is left alone");
    let mut client = Client::dial(broker.port()).await.expect("it listens");
    assert_eq!(client.connect("p", None).await, [0, 0]);
}

#[tokio::test]
async fn what_was_saved_survives_a_kill_until_it_is_forgotten() {
    let mut broker = Mosquitto::builder().persistence(true).start().await.expect("it starts");
    assert!(broker.saved().expect("no file is no error").is_empty());
    let mut client = Client::dial(broker.port()).await.expect("it listens");
    client.connect("p", None).await;
    client.subscribe("t").await;
    broker.save().await.expect("it saves");
    broker.kill().await.expect("it dies");
    assert!(matches!(broker.save().await, Err(MosquittoError::NotRunning)));
    assert!(!broker.saved().expect("a file").is_empty());
    for present in [1, 0] {
        broker.start_again().await.expect("it starts on the same port");
        let mut client = Client::dial(broker.port()).await.expect("it listens");
        assert_eq!(client.connect("p", None).await, [present, 0]);
        broker.kill().await.expect("it dies");
        broker.forget().expect("removed");
    }
    broker.forget().expect("a second time is no error");
}

#[tokio::test]
async fn a_paused_broker_takes_bytes_and_answers_after_resume() {
    let mut broker = Mosquitto::start().await.expect("it starts");
    let mut client = Client::dial(broker.port()).await.expect("it listens");
    client.connect("p", None).await;
    for _ in 0..2 {
        broker.pause().expect("it stands still");
        client.send(&packet::publish("t", b"x", 1, Some(9), false, false)).await;
        let mut byte = [0];
        let answer = timeout(Duration::from_millis(100), client.0.peek(&mut byte)).await;
        assert!(answer.is_err(), "no answer while it is paused");
        broker.resume().expect("it goes on");
        assert_eq!(client.read().await, (packet::PUBACK, vec![0, 9]));
    }
    broker.pause().expect("it stands still");
    broker.stop().await.expect("a paused one can be stopped");
    assert!(matches!(broker.pause(), Err(MosquittoError::NotRunning)));
    assert!(matches!(broker.resume(), Err(MosquittoError::NotRunning)));
}

#[tokio::test]
async fn dropping_it_ends_the_process_even_if_paused() {
    let broker = Mosquitto::start().await.expect("it starts");
    let port = broker.port();
    broker.pause().expect("it stands still");
    drop(broker);
    assert!(Client::dial(port).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn passwords_access_and_lines_count() {
    let broker = Mosquitto::builder()
        .password("user", "secret")
        .password("other", "word")
        .acl("user user\ntopic readwrite open/#\n")
        .config_line("max_keepalive 600")
        .start();
    let broker = broker.await.expect("it starts");
    for (login, code) in [(None, 5), (Some(("user", "wrong")), 5), (Some(("other", "word")), 0)] {
        let mut client = Client::dial(broker.port()).await.expect("it listens");
        assert_eq!(client.connect("c", login).await, [0, code]);
    }
    let mut client = Client::dial(broker.port()).await.expect("it listens");
    client.connect("d", Some(("user", "secret"))).await;
    client.subscribe("#").await;
    client
        .send(&packet::publish("closed/x", b"no", 0, None, false, false))
        .await;
    client
        .send(&packet::publish("open/x", b"yes", 0, None, false, false))
        .await;
    let (first, body) = client.read().await;
    assert_eq!(packet::parse_publish(first, &body).topic, "open/x");
}

#[tokio::test]
async fn a_bad_line_is_told_with_the_log() {
    let error = Mosquitto::builder().config_line("no_such_option 1").start().await;
    let error = error.expect_err("it does not start").to_string();
    assert!(error.contains("no_such_option"), "{error}");
}
