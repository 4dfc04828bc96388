//! `tars`: what an operator of the fleet asks from a terminal. Why does a service not connect
//! ([`doctor`]), how is everybody ([`watch`]), what is being said ([`tail`]), and saying something
//! oneself ([`send`], [`request`]).
//!
//! It speaks MQTT through the facade alone (the doctor's TLS step dials as the adapters do), and never under the client id of a service, which
//! would throw that service out; only `doctor --as-service` does so, when asked to.

mod args;
mod broker;
mod doctor;
mod exit;
mod fleet;
mod output;
mod request;
mod send;
mod tail;
mod times;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Arguments, Command};
use crate::exit::Failure;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {
        command,
        color,
        verbose,
    } = Arguments::parse();
    color.apply();
    log(verbose);
    let done = match command {
        Command::Doctor(args) => doctor::run(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Tail(args) => tail::run(args).await,
        Command::Send(args) => send::run(args).await,
        Command::Request(args) => request::run(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tars", &mut script);
            output::raw(&script)
        }
    };
    done.map_or_else(Failure::tell, |()| ExitCode::SUCCESS)
}

/// The client's own log, to stderr: nothing by default, because what matters is told in words.
fn log(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(format!("warn,tars_mqtt={level},adapter_rumqttc={level}"))
        .with_writer(io::stderr)
        .init();
}
