//! One service of the chaos runs: a process of its own on the facade alone, configured by its
//! environment. It tells its standard output what happens to it, line by line, and obeys its
//! standard input; see `chaos::line`. Arguments: its name, and the number of its first event.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tars_mqtt::{Client, Config, Envelope, Error, Lifecycle, LifecycleEvent, QoS, Route};
use tars_tests::chaos::{Command, Event, FLEET, Line, Listening, Role, Service};
use tokio::sync::mpsc;

/// Unsettled publishes at one time; the client's own bound is above.
const UNSETTLED: usize = 500;
/// Events that an outage may delay; what is beyond is not published at all.
const OWED: u64 = 1000;
/// What waits for the handlers. An adapter that cannot pause reading keeps up to twice as much when a
/// link ends, and loses what is beyond: the floods stay below that.
const INBOUND: usize = 4096;
/// Between two looks at what is owed.
const TICK: Duration = Duration::from_millis(10);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let service = arguments.next().and_then(|name| Service::named(&name));
    let first = arguments.next().and_then(|first| first.parse().ok());
    let (Some(service), Some(first)) = (service, first) else {
        let names = FLEET.map(|service| service.name).join(" | ");
        eprintln!("usage: chaos_service ({names}) FIRST");
        return ExitCode::from(2);
    };
    match run(service, first).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(service: Service, first: u64) -> Result<(), Error> {
    let config = Config::builder()
        .env()
        // A short one, since links vanish here while a connection is being made.
        .connect_timeout(Duration::from_secs(2))
        .inbound_messages(INBOUND);
    let hang = Arc::new(AtomicBool::new(false));
    let mut builder = Client::builder(config.build()?);
    for (place, listening) in service.routes().iter().enumerate() {
        builder = builder.route(route(place, *listening, hang.clone()));
    }
    let client = builder.build()?;
    let lifecycle = client.lifecycle();
    let mut commands = commands();
    client.connect().await?;
    let end = client.until_signal();
    let result = match service.role {
        Role::Source { lane, rate } => {
            let publishing = publish(&client, lane, rate, first, &mut commands, lifecycle);
            // It ends with its input.
            tokio::select! { result = end => result, () = publishing => Ok(()) }
        }
        Role::Worker { .. } => {
            let listening = listen(&hang, &mut commands, lifecycle);
            tokio::select! { result = end => result, () = listening => Ok(()) }
        }
    };
    let report = client.shutdown().await;
    if !report.is_complete() {
        eprintln!("the shutdown was not complete: {report:?}");
    }
    result
}

/// On a thread of its own, which ends with the process.
fn commands() -> mpsc::Receiver<Command> {
    let (sender, commands) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Some(command) = line.ok().as_deref().and_then(Command::parse) else {
                return;
            };
            if sender.blocking_send(command).is_err() {
                return;
            }
        }
    });
    commands
}

fn route(place: usize, listening: Listening, hang: Arc<AtomicBool>) -> Route {
    let handler = move |event: Envelope<Event>| {
        let hang = hang.clone();
        async move {
            let event = event.data;
            println!("{}", Line::Begin(place, event));
            if hang.swap(false, Ordering::Relaxed) {
                println!("{}", Line::Hung(place, event));
                std::future::pending::<()>().await;
            }
            if !listening.work.is_zero() {
                tokio::time::sleep(listening.work).await;
            }
            println!("{}", Line::End(place, event));
        }
    };
    Route::new(listening.filter, handler)
        .qos(QoS::AtLeastOnce)
        .concurrency(listening.concurrency)
}

async fn listen(hang: &AtomicBool, commands: &mut mpsc::Receiver<Command>, mut lifecycle: Lifecycle) {
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Hang) => hang.store(true, Ordering::Relaxed),
                Some(_) => {}
                None => return,
            },
            Some(event) = lifecycle.next() => tell(&event),
        }
    }
}

async fn publish(
    client: &Client,
    lane: char,
    rate: u32,
    first: u64,
    commands: &mut mpsc::Receiver<Command>,
    mut lifecycle: Lifecycle,
) {
    let topic = format!("chaos/{lane}");
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut unsettled = FuturesUnordered::new();
    let (mut next, mut owed, mut due) = (first, 0_u64, 0.0);
    let mut is_paused = false;
    loop {
        while owed > 0 && unsettled.len() < UNSETTLED && !is_paused {
            let event = Event { lane, n: next };
            (next, owed) = (next + 1, owed - 1);
            println!("{}", Line::Attempt(event));
            let publish = client.publish_event(&*topic, "chaos.event", &event);
            match publish.qos(QoS::AtLeastOnce).accepted().await {
                Ok(receipt) => unsettled.push(async move { (event, receipt.await) }),
                Err(error) => println!("{}", Line::Failed(event, error.to_string())),
            }
        }
        tokio::select! {
            // What had settled before the link was lost is told before that: the ledger relies on it.
            biased;
            Some((event, settled)) = unsettled.next() => {
                match settled {
                    Ok(_) => println!("{}", Line::Accepted(event)),
                    Err(error) => println!("{}", Line::Failed(event, error.to_string())),
                }
                if is_paused && unsettled.is_empty() {
                    println!("{}", Line::Quiet);
                }
            }
            Some(event) = lifecycle.next() => tell(&event),
            command = commands.recv() => match command {
                Some(Command::Pause) => {
                    is_paused = true;
                    if unsettled.is_empty() {
                        println!("{}", Line::Quiet);
                    }
                }
                Some(Command::Go) => is_paused = false,
                Some(Command::Flood(events)) => owed += events,
                Some(Command::Hang) => {}
                None => return,
            },
            _ = ticks.tick() => if owed < OWED && !is_paused {
                due += f64::from(rate) * TICK.as_secs_f64();
                while due >= 1.0 {
                    (due, owed) = (due - 1.0, owed + 1);
                }
            }
        }
    }
}

fn tell(event: &LifecycleEvent) {
    match event {
        LifecycleEvent::Connected { session_present } => println!("{}", Line::Connected(*session_present)),
        LifecycleEvent::SubscriptionsRestored { filters } => println!("{}", Line::Subscribed(filters.len())),
        LifecycleEvent::ConnectionLost { reason } => println!("{}", Line::Lost(reason.to_string())),
        _ => {}
    }
}
