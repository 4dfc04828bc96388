//! Python services, of `tests/python`.

use std::path::{Path, PathBuf};

use tars_testkit::mosquitto::Mosquitto;

use super::child::{Child, service};

const ADVICE: &str = "run `cargo xtask test --only tools`: it makes the Python environment of this test";

/// The interpreter of the environment that `cargo xtask` makes: told by it, or found in the folder
/// that this test was built into.
fn interpreter() -> PathBuf {
    if let Some(python) = std::env::var_os("TARS_PYTHON") {
        return python.into();
    }
    let test = std::env::current_exe().unwrap();
    let places = test.ancestors().map(|folder| folder.join("python/bin/python"));
    let mut found = places.filter(|place| place.is_file());
    found
        .next()
        .unwrap_or_else(|| panic!("there is no Python for this test; {ADVICE}"))
}

/// The service of this file, once it says that it is ready.
pub(crate) async fn launch(script: &str, broker: &Mosquitto) -> Child {
    let mut command = service(interpreter());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .env("MQTT_HOST", "127.0.0.1")
        .env("MQTT_PORT", broker.port().to_string());
    let mut child = Child::spawn(command, ADVICE);
    child.until_line("ready").await;
    child
}
