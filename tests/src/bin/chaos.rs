//! Real processes, a real broker, every fault, and a ledger. Run it with
//! `cargo xtask chaos --minutes N`, which makes the program of the services as well.

use std::process::ExitCode;

use tars_tests::chaos::{Plan, run};

const USAGE: &str = "usage: chaos [--minutes N] [--adapter rumqttc|paho] [--seed N]";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (minutes, adapter, seed) = (plan.time.as_secs_f64() / 60.0, &plan.adapter, plan.seed);
    println!("chaos for {minutes} min with {adapter}, seed {seed}");
    let report = run(&plan, |line| println!("{line}")).await;
    println!("\n{report}");
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let (mut minutes, mut adapter, mut seed) = (1.0, "rumqttc".to_owned(), 0);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let wrong = |what: &str| format!("{name} {value}: {what}");
        match name.as_str() {
            "--minutes" => {
                let number = value.parse().ok().filter(|minutes| (0.1..=1440.0).contains(minutes));
                minutes = number.ok_or_else(|| wrong("not a number from 0.1 to 1440"))?;
            }
            "--seed" => seed = value.parse().map_err(|_| wrong("not a number"))?,
            "--adapter" if value == "rumqttc" || value == "paho" => adapter.clone_from(&value),
            "--adapter" => return Err(wrong("it is rumqttc or paho")),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = here.with_file_name("chaos_service");
    Ok(Plan::minutes(minutes, &adapter, seed, program))
}
