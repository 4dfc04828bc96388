//! What a service tells its standard output, one line for each thing that happened, and what it
//! is told on its standard input. A line that was written is not lost with its process: the pipe
//! is the kernel's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One published event: its lane and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Event {
    /// The last level of its topic.
    pub lane: char,
    /// Counted from 0 in each lane.
    pub n: u64,
}

/// What a service tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// It is about to publish.
    Attempt(Event),
    /// A publish returned `Ok`.
    Accepted(Event),
    /// A publish failed.
    Failed(Event, String),
    /// Told to be quiet, it publishes nothing, and nothing is unsettled.
    Quiet,
    /// A handler of the subscription with this place begins.
    Begin(usize, Event),
    /// It succeeds.
    End(usize, Event),
    /// It hangs, as it was told.
    Hung(usize, Event),
    /// The broker accepted the connection; whether it had the session.
    Connected(bool),
    /// The broker granted this many filters.
    Subscribed(usize),
    /// The connection was lost.
    Lost(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lane, self.n)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt(event) => write!(f, "attempt {event}"),
            Self::Accepted(event) => write!(f, "accepted {event}"),
            Self::Failed(event, why) => write!(f, "failed {event} {}", why.replace('\n', " ")),
            Self::Quiet => f.write_str("quiet"),
            Self::Begin(route, event) => write!(f, "begin {event} {route}"),
            Self::End(route, event) => write!(f, "end {event} {route}"),
            Self::Hung(route, event) => write!(f, "hung {event} {route}"),
            Self::Connected(session_present) => write!(f, "connected {session_present}"),
            Self::Subscribed(filters) => write!(f, "subscribed {filters}"),
            Self::Lost(why) => write!(f, "lost {}", why.replace('\n', " ")),
        }
    }
}

impl Line {
    /// Reads what [`Display`](fmt::Display) wrote.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.splitn(3, ' ');
        let mut event = || {
            let lane = words.next()?.parse().ok()?;
            let n = words.next()?.parse().ok()?;
            Some((Event { lane, n }, words.next().unwrap_or_default()))
        };
        Some(match what {
            "attempt" => Self::Attempt(event()?.0),
            "accepted" => Self::Accepted(event()?.0),
            "failed" => event().map(|(event, why)| Self::Failed(event, why.to_owned()))?,
            "quiet" => Self::Quiet,
            "begin" | "end" | "hung" => {
                let (event, route) = event()?;
                let route = route.parse().ok()?;
                match what {
                    "begin" => Self::Begin(route, event),
                    "end" => Self::End(route, event),
                    _ => Self::Hung(route, event),
                }
            }
            "connected" => Self::Connected(rest.parse().ok()?),
            "subscribed" => Self::Subscribed(rest.parse().ok()?),
            "lost" => Self::Lost(rest.to_owned()),
            _ => return None,
        })
    }
}

/// What a service is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Publish nothing more, and say so when nothing is unsettled.
    Pause,
    /// Publish again.
    Go,
    /// Publish this many at once.
    Flood(u64),
    /// The next run of a handler never ends.
    Hang,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => f.write_str("pause"),
            Self::Go => f.write_str("go"),
            Self::Flood(events) => write!(f, "flood {events}"),
            Self::Hang => f.write_str("hang"),
        }
    }
}

impl Command {
    /// Reads what [`Display`](fmt::Display) wrote.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("pause", _) => Some(Self::Pause),
            ("go", _) => Some(Self::Go),
            ("flood", events) => events.parse().ok().map(Self::Flood),
            ("hang", _) => Some(Self::Hang),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let event = Event { lane: 'a', n: 7 };
        let lines = [
            Line::Attempt(event),
            Line::Accepted(event),
            Line::Failed(event, "no time left".to_owned()),
            Line::Quiet,
            Line::Begin(1, event),
            Line::End(1, event),
            Line::Hung(0, event),
            Line::Connected(true),
            Line::Subscribed(2),
            Line::Lost("cut off".to_owned()),
        ];
        for line in lines {
            assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
        for command in [Command::Pause, Command::Go, Command::Flood(9), Command::Hang] {
            assert_eq!(Command::parse(&command.to_string()), Some(command));
        }
        for nonsense in ["", "attempt", "attempt a", "begin a 1", "connected perhaps"] {
            assert_eq!(Line::parse(nonsense), None);
        }
    }
}
