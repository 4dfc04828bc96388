//! The Python environment of the tests: packages of exact versions, in a folder of the target
//! directory. Made once, and made anew when the list of packages or the interpreter changes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::{Line, root};

/// What the suites look at to find the interpreter, before they look beside themselves.
pub(crate) const VARIABLE: &str = "TARS_PYTHON";

const REQUIREMENTS: &str = "tests/python/requirements.txt";

/// Written last: what the environment was made of.
const STAMP: &str = "made-of.txt";

/// Makes the environment, unless it is there as it should be.
pub(crate) fn provide() -> Result<()> {
    let folder = folder()?;
    let interpreter = interpreter(&folder);
    let requirements = fs::read_to_string(root().join(REQUIREMENTS)).context(REQUIREMENTS)?;
    let version = Line::new("python3").words("--version").output()?;
    let wanted = format!("{version}{requirements}");
    if is_made_of(&folder, &wanted) && Line::new(&shown(&interpreter)).words("-c pass").succeeds() {
        println!("  the Python environment is there");
        return Ok(());
    }
    // What is half made must not look whole.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Line::new("python3")
        .words("-m venv")
        .arguments([shown(&folder)])
        .run()?;
    let install = Line::new(&shown(&interpreter))
        .words("-m pip install --quiet --disable-pip-version-check --only-binary :all: --requirement")
        .arguments([REQUIREMENTS]);
    if let Err(error) = install.run() {
        bail!(
            "{error:#}; it needs the Python package index, and Python 3.10 or newer (here: {})",
            version.trim()
        );
    }
    fs::write(folder.join(STAMP), wanted).context("cannot write down what the environment is made of")
}

/// The interpreter for the tests: the user's choice, or the one of the environment.
pub(crate) fn chosen() -> Result<String> {
    match std::env::var(VARIABLE) {
        Ok(python) => Ok(python),
        Err(_) => Ok(shown(&interpreter(&folder()?))),
    }
}

/// In the target directory, which this program was built into, as the tests are: they find it there.
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let target = program
        .ancestors()
        .nth(2)
        .context("this program is not in a target directory")?;
    Ok(target.join("python"))
}

fn interpreter(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}

fn is_made_of(folder: &Path, wanted: &str) -> bool {
    fs::read_to_string(folder.join(STAMP)).is_ok_and(|made| made == wanted)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_its_exact_version() {
        let requirements = fs::read_to_string(root().join(REQUIREMENTS)).unwrap();
        let packages = requirements.lines().filter(|line| !line.starts_with('#'));
        assert!(packages.clone().count() >= 3);
        packages.for_each(|line| assert!(line.contains("=="), "{line}"));
    }

    #[test]
    fn what_was_never_finished_is_made_anew() {
        assert!(!is_made_of(&root().join("no-such-folder"), ""));
    }
}
