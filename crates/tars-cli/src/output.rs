//! What is printed: results on stdout, everything else on stderr. Colours go by `NO_COLOR`, the
//! terminal and `--color`.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};

use crate::exit::Failure;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const ODD: Style = AnsiColor::Yellow.on_default();
pub(crate) const TOPIC: Style = AnsiColor::Cyan.on_default();
pub(crate) const TYPE: Style = AnsiColor::Green.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();

/// One line of result, out at once: a reader of a pipe shall not wait.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// A value as one line of JSON, without colours.
pub(crate) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// Bytes as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Resolves when nobody reads stdout any more: without it, what follows a pipeline such as
/// `| head -1` would be noticed with the next line only, which may never come.
pub(crate) async fn nobody_reads() {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let now = Timespec::default();
        let mut look = tokio::time::interval(std::time::Duration::from_millis(500));
        loop {
            look.tick().await;
            let stdout = io::stdout();
            let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
            if poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR) {
                return;
            }
        }
    }
    #[cfg(not(unix))]
    std::future::pending().await
}

/// Something worth knowing that is no result.
pub(crate) fn note(text: &str) {
    // Where stderr is closed nobody wants to know.
    let _ = writeln!(anstream::stderr().lock(), "{FAINT}tars: {text}{FAINT:#}");
}

/// Why it failed.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{BAD}tars:{BAD:#} {text}");
}

/// Text of others without what would drive the terminal: control characters are written out.
pub(crate) fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            tamed.extend(character.escape_default());
        } else {
            tamed.push(character);
        }
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(tame("a\u{1b}[2Jb\nü\u{9b}"), "a\\u{1b}[2Jb\\nü\\u{9b}");
    }
}
