//! The numbers of a client at an address for Prometheus: a broker goes away and comes back, and
//! what was published meanwhile is seen to be late and not lost.
//!
//! It brings its own broker, asks its own address, prints what stands there, and ends. A service
//! of yours needs [`listen`] and the feature `metrics`, nothing else.
//!
//! ```sh
//! cargo run -p tars-mqtt --features metrics --example metrics_prometheus
//! METRICS_ADDRESS=127.0.0.1:9000 cargo run -p tars-mqtt --features metrics --example metrics_prometheus
//! ```

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde_json::json;
use tars_mqtt::{Client, Config, Data, Envelope, QoS, State};
use tars_testkit::embedded::EmbeddedBroker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

type Failed = Box<dyn StdError + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(10);

/// Upper bounds of the histograms, in seconds: from a handler that does nothing to a publish that
/// waited for its broker as long as it may (`MQTT_PUBLISH_TIMEOUT`, 30 s).
const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Answers Prometheus at this address. Before the first client is built: it takes its handles then.
fn listen(address: SocketAddr) -> Result<(), Failed> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)?
        .install()?;
    Ok(())
}

/// By `METRICS_ADDRESS`, or any free one.
async fn address() -> Result<SocketAddr, Failed> {
    match std::env::var("METRICS_ADDRESS") {
        Ok(address) => Ok(address.parse()?),
        Err(_) => Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?),
    }
}

/// What Prometheus would read.
async fn scrape(address: SocketAddr) -> Result<String, Failed> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok(reply)
    };
    timeout(PATIENCE, asked).await?
}

/// The value of the series that begins so.
fn value(page: &str, series: &str) -> Result<f64, Failed> {
    let line = page.lines().find(|line| line.starts_with(series));
    let value = line.and_then(|line| line.rsplit(' ').next());
    Ok(value.ok_or_else(|| format!("there is no {series}"))?.parse()?)
}

async fn work(job: Envelope<Data>) -> Result<(), Failed> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    if job.data["number"] == 7 {
        return Err("the seventh is always difficult".into());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let address = address().await?;
    listen(address)?;
    let mut broker = EmbeddedBroker::start().await?;
    let config = Config::builder().url(broker.url()).client_id("worker");
    let client = Client::new(config.enable_heartbeat(true).build()?)?;
    client.connect().await?;
    client.subscribe("work/#", work).qos(QoS::AtLeastOnce).await?;

    let publish = async |number: u32| {
        let event = json!({"number": number});
        let job = client.publish_event(format!("work/{number}"), "work.job", &event);
        job.qos(QoS::AtLeastOnce).accepted().await
    };
    for number in 0..10 {
        publish(number).await?.await?;
    }
    broker.stop().await?;
    timeout(PATIENCE, client.state().until(State::Reconnecting)).await?;
    let mut late = Vec::new();
    for number in 10..20 {
        late.push(publish(number).await?);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    broker.start_again().await?;
    for receipt in late {
        timeout(PATIENCE, receipt).await??;
    }
    timeout(PATIENCE, async {
        while client.stats().handled + client.stats().failed < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;

    let page = scrape(address).await?;
    println!(
        "http://{address}/metrics has {} lines, among them",
        page.lines().count()
    );
    for (series, expected) in [
        ("tars_mqtt_reconnects_total{", 1.0),
        ("tars_mqtt_published_total{", 20.0),
        ("tars_mqtt_publish_failed_total{", 0.0),
        ("tars_mqtt_unsettled{", 0.0),
        (
            r#"tars_mqtt_publish_settle_seconds_count{client_id="worker",qos="1",outcome="settled"}"#,
            20.0,
        ),
        (r#"tars_mqtt_handled_total{client_id="worker",filter="work/#"}"#, 19.0),
        (r#"tars_mqtt_failed_total{client_id="worker",filter="work/#"}"#, 1.0),
        (r#"tars_mqtt_state{client_id="worker",state="connected"}"#, 1.0),
    ] {
        let value = value(&page, series)?;
        println!("  {series:<88} {value}");
        if value != expected {
            return Err(format!("{series} is {value}, {expected} expected").into());
        }
    }
    let quick = value(
        &page,
        r#"tars_mqtt_publish_settle_seconds_bucket{client_id="worker",qos="1",outcome="settled",le="0.25"}"#,
    )?;
    println!("  of the 20 publishes {quick} settled within 0.25 s: the others waited for the broker");
    if quick > 10.0 {
        return Err("nothing waited for the broker".into());
    }
    client.shutdown().await;
    broker.stop().await?;
    println!("metrics_prometheus: ok");
    Ok(())
}
