//! A service with two addresses for the probes of a container: `/live` says that the process
//! answers, `/ready` that it is connected and every subscription is granted.
//!
//! Without arguments it brings its own broker, stops and starts it, and asks itself what it says
//! meanwhile. With `MQTT_URL` and `MQTT_CLIENT_ID` it is a service, until Ctrl-C or SIGTERM; with
//! `probe` it asks the service at `PROBE_ADDRESS` and exits with 0 if that is ready, else with 1.
//!
//! ```sh
//! cargo run -p tars-mqtt --example readiness
//! MQTT_URL=mqtt://localhost MQTT_CLIENT_ID=ears cargo run -p tars-mqtt --example readiness
//! curl -i http://127.0.0.1:8080/ready
//! ```

use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::Duration;

use tars_mqtt::{Client, Config, Error, InboundMessage, Route, State};
use tars_testkit::embedded::EmbeddedBroker;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

type Failed = Box<dyn StdError + Send + Sync>;

/// Whoever asks is quick, or is sent away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that are read at most.
const LONGEST_REQUEST: u64 = 8 * 1024;
/// Probes at one time; more wait.
const MOST_PROBES: usize = 16;

/// Answers probes until it is dropped.
async fn serve(listener: TcpListener, client: Client) {
    let mut probes = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(probes.spawn(timeout(PATIENCE, answer(stream, client.clone())))),
            // Out of file descriptors, for example: that may pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        while probes.try_join_next().is_some() {}
        if probes.len() >= MOST_PROBES {
            probes.join_next().await;
        }
    }
}

/// One request, one answer, and the connection is closed.
async fn answer(mut stream: TcpStream, client: Client) -> std::io::Result<()> {
    let (input, mut output) = stream.split();
    let mut lines = BufReader::new(input.take(LONGEST_REQUEST)).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match request.split(' ').nth(1) {
        Some("/live") => ("200 OK", "alive".to_owned()),
        Some("/ready") if client.is_ready() => ("200 OK", "ready".to_owned()),
        Some("/ready") => (
            "503 Service Unavailable",
            format!("not ready: {}", client.state().current()),
        ),
        _ => ("404 Not Found", "there are /live and /ready".to_owned()),
    };
    let length = body.len() + 1;
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close");
    output.write_all(format!("{head}\r\n\r\n{body}\n").as_bytes()).await
}

/// What an address says: its status line and its text.
async fn ask(address: &str, path: &str) -> Result<(String, String), Failed> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.take(LONGEST_REQUEST).read_to_string(&mut reply).await?;
        let (head, body) = reply.split_once("\r\n\r\n").ok_or("that is not HTTP")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        Ok((status.to_owned(), body.trim().to_owned()))
    };
    timeout(PATIENCE, asked).await?
}

/// The service's work: whatever is published below `work/`.
async fn work(message: InboundMessage) {
    println!("work on {}: {} bytes", message.topic, message.payload.len());
}

fn service(config: Config) -> Result<Client, Error> {
    // A route of the builder: without its grant the service is not ready.
    Client::builder(config).route(Route::new("work/#", work)).build()
}

/// Address of the probes, by `PROBE_ADDRESS`; port 0 is any free one.
fn address(default: &str) -> String {
    std::env::var("PROBE_ADDRESS").unwrap_or_else(|_| default.to_owned())
}

/// As a service among others.
async fn run(config: Config) -> Result<(), Failed> {
    let listener = TcpListener::bind(address("127.0.0.1:8080")).await?;
    println!("probes are answered on http://{}", listener.local_addr()?);
    let client = service(config)?;
    let probes = tokio::spawn(serve(listener, client.clone()));
    let ended = client
        .run_until(async |client: Client| client.until_signal().await)
        .await;
    probes.abort();
    ended.map_err(Into::into)
}

/// By itself, with a broker that goes away and comes back.
async fn show() -> Result<(), Failed> {
    let mut broker = EmbeddedBroker::start().await?;
    let listener = TcpListener::bind(address("127.0.0.1:0")).await?;
    let probe = listener.local_addr()?.to_string();
    let config = Config::builder().url(broker.url()).client_id("readiness").build()?;
    let client = service(config)?;
    let probes = tokio::spawn(serve(listener, client.clone()));
    let says = async |when: &str, expected: &str| -> Result<(), Failed> {
        let (status, text) = ask(&probe, "/ready").await?;
        println!("{when:<22} /ready says {status} {text}");
        if status == expected {
            return Ok(());
        }
        Err(format!("{when}, /ready said {status} {text}").into())
    };

    says("before it connects", "503").await?;
    client.connect().await?;
    timeout(PATIENCE, client.until_ready()).await??;
    says("connected and granted", "200").await?;
    broker.stop().await?;
    timeout(PATIENCE, client.state().until(State::Reconnecting)).await?;
    says("the broker is gone", "503").await?;
    let (status, _) = ask(&probe, "/live").await?;
    if status != "200" {
        return Err(format!("a broker that is gone is no reason to restart the service, /live said {status}").into());
    }
    broker.start_again().await?;
    timeout(2 * PATIENCE, client.until_ready()).await??;
    says("the broker is back", "200").await?;
    client.shutdown().await;
    says("after the shutdown", "503").await?;
    probes.abort();
    broker.stop().await?;
    println!("readiness: ok");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failed> {
    if std::env::args().nth(1).is_some_and(|argument| argument == "probe") {
        let (status, text) = ask(&address("127.0.0.1:8080"), "/ready").await?;
        println!("{text}");
        return Ok(if status == "200" {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    match std::env::var_os("MQTT_URL") {
        Some(_) => run(Config::from_env()?).await?,
        None => show().await?,
    }
    Ok(ExitCode::SUCCESS)
}
