//! A service for the suites to start, stop and kill: a process of its own, configured by its
//! environment alone. It tells its standard output, line by line, where it stands, and its log
//! goes to standard error in full.
//!
//! The first argument says what it does:
//! - `serve`: says `ready`, publishes `fixture/started`, and waits for the signal to stop;
//! - `work`: handles `jobs` at QoS 1 and says `handled …` for each;
//! - `hang`: as `work`, but its handler says `taken …` and never ends;
//! - `slow MS N`: handles the numbers on `flood` at QoS 1, one in MS milliseconds, with an inbound
//!   budget of N messages; says `handled …` for every 500th, and `out of order: …` for each that is.

use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tars_mqtt::{Client, Config, Error, InboundMessage, QoS, Route};

#[tokio::main]
async fn main() -> ExitCode {
    let role = std::env::args().nth(1).unwrap_or_default();
    tracing_subscriber::fmt()
        // A flood in full detail would be all it does.
        .with_env_filter(if role == "slow" { "info" } else { "trace" })
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match run(&role).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(role: &str) -> Result<(), Error> {
    let mut config = Config::from_env()?;
    if role == "slow" {
        config.inbound_messages = number(3) as usize;
    }
    let builder = Client::builder(config);
    let builder = match role {
        "work" => {
            builder.route(Route::new("jobs", async |job: InboundMessage| say("handled", &job)).qos(QoS::AtLeastOnce))
        }
        "hang" => builder.route(Route::new("jobs", hang).qos(QoS::AtLeastOnce)),
        "slow" => builder.route(slow(Duration::from_millis(number(2)))),
        _ => builder,
    };
    let serve = async |client: Client| {
        client
            .publish_event("fixture/started", "fixture.started", &json!({"role": role}))
            .qos(QoS::AtLeastOnce)
            .await?;
        let mut signal = pin!(client.until_signal());
        // Looked at first: a signal that comes right after the line is not missed.
        tokio::select! {
            biased;
            result = &mut signal => return result,
            () = async { println!("ready") } => {}
        }
        signal.await
    };
    builder.build()?.run_until(serve).await
}

async fn hang(job: InboundMessage) {
    say("taken", &job);
    pending().await
}

/// The argument at this place.
fn number(place: usize) -> u64 {
    let argument = std::env::args().nth(place).and_then(|text| text.parse().ok());
    argument.expect("the role's arguments are numbers")
}

fn slow(work: Duration) -> Route {
    let next = Arc::new(AtomicU64::new(0));
    let handler = move |message: InboundMessage| {
        let next = Arc::clone(&next);
        async move {
            tokio::time::sleep(work).await;
            let text = String::from_utf8_lossy(&message.payload);
            let got: u64 = text.trim_start().parse().expect("a number");
            let expected = next.fetch_add(1, Ordering::Relaxed);
            if got != expected {
                println!("out of order: {got} in place of {expected}");
            } else if (got + 1).is_multiple_of(500) {
                println!("handled {}", got + 1);
            }
        }
    };
    Route::new("flood", handler).qos(QoS::AtLeastOnce)
}

fn say(what: &str, job: &InboundMessage) {
    let dup = if job.dup { " again" } else { "" };
    println!("{what} {}{dup}", String::from_utf8_lossy(&job.payload));
}
