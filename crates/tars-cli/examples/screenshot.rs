//! The picture of `tars watch` in the README, from a real run: a Mosquitto, seven services on it
//! to which different things happen, and the command as it is installed. By `cargo xtask screenshot`,
//! which builds the command first.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle_svg::Term;
use tars_mqtt::{Client, Config};
use tars_testkit::mosquitto::Mosquitto;
use tars_testkit::proxy::{Direction, Proxy};
use tokio::process::Command;
use tokio::time::sleep;

type Failed = Box<dyn StdError + Send + Sync>;

const BEAT: Duration = Duration::from_secs(2);

async fn service(url: &str, client_id: &str) -> Result<Client, Failed> {
    let config = Config::builder().url(url).client_id(client_id);
    let config = config
        .enable_health(true)
        .enable_heartbeat(true)
        .heartbeat_interval(BEAT);
    let client = Client::new(config.build()?)?;
    client.connect().await?;
    Ok(client)
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let target = std::env::args().nth(1).ok_or("the picture's path is missing")?;
    let broker = Mosquitto::start().await?;
    let url = broker.url();

    let (ears, brain) = (service(&url, "ears").await?, service(&url, "brain").await?);
    ears.publish_health(true).event("ready").await?;
    brain.publish_health(true).event("ready").await?;
    let legs = service(&url, "legs").await?;
    legs.publish_health(false)
        .event("overheated")
        .error("left knee 97 °C")
        .await?;
    let voice = service(&url, "voice").await?;
    let updater = service(&url, "updater").await?;
    updater.shutdown().await;
    // Killed: its last handle goes, and the broker publishes its will.
    drop(service(&url, "gps").await?);
    let link = Proxy::start(([127, 0, 0, 1], broker.port()).into()).await?;
    let camera = service(&link.url(), "camera").await?;

    let watching = Command::new(command()?)
        .args(["watch", "--once", "--for", "13", "--color", "always", "--url", &url])
        .kill_on_drop(true)
        .output();
    let radio_silence = async {
        sleep(2 * BEAT + BEAT / 2).await;
        link.black_hole(Direction::Both, true);
    };
    let hoarse = async {
        sleep(BEAT).await;
        voice
            .publish_health(false)
            .event("mute")
            .error("no sound device")
            .await?;
        sleep(BEAT).await;
        voice.publish_health(true).event("ready").await
    };
    let (watched, (), healed) = tokio::join!(watching, radio_silence, hoarse);
    healed?;
    let watched = watched?;
    if !watched.status.success() {
        return Err(String::from_utf8_lossy(&watched.stderr).into_owned().into());
    }
    let table = String::from_utf8(watched.stdout)?;
    for state in ["unhealthy", "offline", "stale", "shut down", "up"] {
        if !table.contains(state) {
            return Err(format!("no service is {state}:\n{table}").into());
        }
    }
    // The port is another one each time, and says nothing.
    let picture = format!("$ tars watch\n{}", table.replace(&url, "mqtt://broker:1883"));
    std::fs::write(&target, Term::new().render_svg(&picture))?;
    println!("{table}\nin {target}");
    for client in [ears, brain, legs, voice, camera] {
        client.shutdown().await;
    }
    Ok(())
}

/// The command, which cargo puts one folder above the examples.
fn command() -> Result<PathBuf, Failed> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program is nowhere")?;
    Ok(folder.join("tars"))
}
