//! What the tests need besides Rust: a broker, its command-line clients, a C compiler and cmake,
//! Python, rustfmt, clippy.
//!
//! On Debian and its kin what is missing is installed, if that needs no password; else the exact
//! command is told. Nothing is started or stopped: the tests start brokers of their own, on ports
//! of their own.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command::Line;
use crate::python;

/// A Debian package and how to see that what it brings is there.
struct Package {
    name: &'static str,
    is_there: fn() -> bool,
}

const PACKAGES: [Package; 7] = [
    Package {
        name: "mosquitto",
        is_there: || has_program("mosquitto"),
    },
    Package {
        name: "mosquitto-clients",
        is_there: || has_program("mosquitto_pub") && has_program("mosquitto_sub"),
    },
    // For the instructions that the benchmarks count.
    Package {
        name: "valgrind",
        is_there: || has_program("valgrind"),
    },
    // For the adapter on Eclipse Paho, which is C.
    Package {
        name: "build-essential",
        is_there: || has_program("cc") && has_program("make"),
    },
    Package {
        name: "cmake",
        is_there: || has_program("cmake"),
    },
    Package {
        name: "python3",
        is_there: || has_program("python3"),
    },
    Package {
        name: "python3-venv",
        is_there: || {
            Line::new("python3")
                .arguments(["-c", "import venv, ensurepip"])
                .succeeds()
        },
    },
];

/// For the package manager: ask nothing, and start no broker on the standard port. Debian's
/// scripts take the runlevel, and systemctl the last one, for "this system is not running".
const QUIETLY: &str = "DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 SYSTEMD_OFFLINE=1";

/// Finds or installs everything.
pub(crate) fn provide() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        provide_component(component, subcommand)?;
    }
    provide_packages(&missing())?;
    python::provide()?;
    // So that the steps which look at all dependencies need no network.
    Line::cargo("fetch --locked").run()
}

/// Only the broker, and nothing is installed.
pub(crate) fn require_mosquitto() -> Result<()> {
    if has_program("mosquitto") {
        return Ok(());
    }
    bail!(
        "there is no `mosquitto`, and without it these suites test nothing; `cargo xtask test --only tools` installs it"
    )
}

/// One line for each tool that can make a difference.
pub(crate) fn print_versions() {
    println!("versions:");
    for program in ["rustc", "cargo", "python3"] {
        let version = Line::new(program).words("--version").output();
        println!("  {}", version.as_deref().map_or("none", str::trim));
    }
    // Mosquitto has no option for it; its help begins with it, and exits with 3.
    let help = Line::new(&program_path("mosquitto")).words("-h").command().output();
    let help = help.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = help.as_deref().ok().and_then(|help| help.lines().next());
    println!("  {}", version.unwrap_or("no mosquitto yet"));
    println!();
}

fn provide_component(component: &str, subcommand: &str) -> Result<()> {
    let there = || Line::cargo(subcommand).words("--version").succeeds();
    if there() {
        println!("  {component} is there");
        return Ok(());
    }
    let add = Line::new("rustup").words("component add").words(component);
    if add.run().is_err() || !there() {
        bail!("{component} is missing; to install it: {add}");
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    for package in &PACKAGES {
        let is_there = (package.is_there)();
        println!("  {} is {}", package.name, if is_there { "there" } else { "missing" });
        if !is_there {
            missing.push(package.name);
        }
    }
    missing
}

fn provide_packages(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !has_program("apt-get") {
        bail!(
            "please install, by your system's package manager: {}",
            packages.join(", ")
        );
    }
    let is_root = Line::new("id").words("-u").output().is_ok_and(|id| id.trim() == "0");
    let [update, install] = installation(packages, is_root);
    if !is_root && !Line::new("sudo").words("-n true").succeeds() {
        bail!("installing needs a password; please run\n  {update}\n  {install}");
    }
    // An update may fail for a source that does not matter here; then installing decides.
    if let Err(error) = update.run() {
        println!("  {error:#}; going on with what is known");
    }
    install.run()?;
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("still missing after `{install}`: {}", missing.join(", "))
}

fn installation(packages: &[&str], is_root: bool) -> [Line; 2] {
    // By `env`, because sudo passes no variables on.
    let line = || {
        let words = format!("{QUIETLY} apt-get");
        if is_root {
            Line::new("env").words(&words)
        } else {
            Line::new("sudo").words("-n env").words(&words)
        }
    };
    let install = line()
        .words("install -y --no-install-recommends")
        .arguments(packages.iter().copied());
    [line().words("update"), install]
}

fn has_program(name: &str) -> bool {
    Path::new(&program_path(name)).is_absolute()
}

/// Where it is. Brokers are daemons: their directory may be left out of a user's path.
fn program_path(name: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = directories
        .map(|directory| directory.join(name))
        .find(|file| file.is_file());
    found.map_or_else(|| name.to_owned(), |file| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_told_exactly() {
        let [update, install] = installation(&["mosquitto", "python3"], false);
        assert_eq!(update.to_string(), format!("sudo -n env {QUIETLY} apt-get update"));
        let expected = format!("sudo -n env {QUIETLY} apt-get install -y --no-install-recommends mosquitto python3");
        assert_eq!(install.to_string(), expected);
        let [update, _] = installation(&[], true);
        assert_eq!(update.to_string(), format!("env {QUIETLY} apt-get update"));
    }

    #[test]
    fn programs_are_found() {
        assert!(has_program("cargo"));
        assert!(!has_program("no-such-program"));
    }
}
