//! The demo: shown to a person, or run once as a test.

use std::io::{self, BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::Line;

/// What its last line begins with if all went well.
const GOOD_END: &str = "demo: ok";

/// Far above what it takes; a demo that hangs shall not hang the tests.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs it with these arguments. A debug build: it is quicker to make, and nothing is measured.
pub(crate) fn show(arguments: &[String]) -> Result<()> {
    line().words("--").arguments(arguments).run()
}

/// Runs it, and looks at how it ends.
pub(crate) fn check() -> Result<()> {
    // Beforehand, so that the limit is the demo's own.
    Line::cargo("build --package tars-demo").run()?;
    let line = line();
    println!("  $ {line}");
    let mut child = line
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{line}` could not be started"))?;
    let output = child.stdout.take().context("the demo's output is not piped")?;
    let reader = thread::spawn(move || last_line(BufReader::new(output)));

    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().context("the demo's end cannot be seen")? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().context("the demo cannot be ended")?;
            child.wait().context("the demo's end cannot be seen")?;
            bail!("`{line}` did not end within {} s", LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    };
    let last = match reader.join() {
        Ok(last) => last.context("the demo's output cannot be read")?,
        Err(_) => bail!("reading the demo's output panicked"),
    };
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    if !last.starts_with(GOOD_END) {
        bail!("`{line}` ended with {last:?}, and not with `{GOOD_END}: …`");
    }
    Ok(())
}

fn line() -> Line {
    Line::cargo("run --package tars-demo")
}

/// Shows each line, and keeps the last one that is not empty.
fn last_line(output: impl BufRead) -> io::Result<String> {
    let mut last = String::new();
    for line in output.lines() {
        let line = line?;
        println!("  | {line}");
        if !line.trim().is_empty() {
            last = line;
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_empty_ones_do_not() {
        assert_eq!(
            last_line(&b"a\ndemo: ok: b\n \n"[..]).ok().as_deref(),
            Some("demo: ok: b")
        );
    }
}
