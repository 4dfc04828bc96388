//! A service for the suites to start, stop and kill: a process of its own, configured by its
//! environment alone. It tells its standard output, line by line, where it stands, and its log
//! goes to standard error in full.
//!
//! The first argument says what it does:
//! - `serve`: says `ready`, publishes `fixture/started`, and waits for the signal to stop;
//! - `work`: handles `jobs` at QoS 1 and says `handled …` for each;
//! - `hang`: as `work`, but its handler says `taken …` and never ends.

use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;

use serde_json::json;
use tars_mqtt::{Client, Config, Error, InboundMessage, QoS, Route};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter("trace")
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let role = std::env::args().nth(1).unwrap_or_default();
    match run(&role).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(role: &str) -> Result<(), Error> {
    let builder = Client::builder(Config::from_env()?);
    let builder = match role {
        "work" => {
            builder.route(Route::new("jobs", async |job: InboundMessage| say("handled", &job)).qos(QoS::AtLeastOnce))
        }
        "hang" => builder.route(Route::new("jobs", hang).qos(QoS::AtLeastOnce)),
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

fn say(what: &str, job: &InboundMessage) {
    let dup = if job.dup { " again" } else { "" };
    println!("{what} {}{dup}", String::from_utf8_lossy(&job.payload));
}
