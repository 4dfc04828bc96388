//! A readable timeline on the terminal: when, who, what.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

/// Who a line is about, in a colour of its own.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Broker,
    Brain,
    Ears,
}

impl Who {
    fn name_and_colour(self) -> (&'static str, u8) {
        match self {
            Self::Broker => ("broker", 35),
            Self::Brain => ("brain", 36),
            Self::Ears => ("ears", 33),
        }
    }
}

/// Prints lines with the time since the beginning. Colour goes to terminals only,
/// and not where `NO_COLOR` is set.
#[derive(Clone)]
pub(crate) struct Timeline(Arc<(Instant, bool)>);

impl Timeline {
    pub(crate) fn start() -> Self {
        let colour =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(Arc::new((Instant::now(), colour)))
    }

    pub(crate) fn chapter(&self, number: usize, of: usize, title: &str) {
        self.print(format_args!(
            "\n{}",
            self.paint(1, format_args!("[{number}/{of}] {title}"))
        ));
    }

    pub(crate) fn say(&self, who: Who, what: impl Display) {
        let (name, colour) = who.name_and_colour();
        let seconds = self.0.0.elapsed().as_secs_f64();
        self.print(format_args!(
            "{seconds:8.3} s  {}  {what}",
            self.paint(colour, format_args!("{name:<6}"))
        ));
    }

    pub(crate) fn last(&self, ok: bool, what: impl Display) {
        self.print(format_args!("\n{}", self.paint(if ok { 32 } else { 31 }, what)));
    }

    fn paint(&self, colour: u8, text: impl Display) -> String {
        if self.0.1 {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    fn print(&self, line: impl Display) {
        // A closed pipe is the reader's decision and no reason to fail.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
