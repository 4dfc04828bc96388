//! `tars watch`: the fleet as a table, live or once.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use crossterm::{cursor, execute, terminal};
use tars_mqtt::contracts::{HEALTH_TOPIC_PREFIX, KEEPALIVE_TOPIC_PREFIX, unix_now};
use tars_mqtt::{Client, Envelope, HealthStatus, Heartbeat, InboundMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout_at};

use crate::args::WatchArgs;
use crate::broker::tell_of_the_connection;
use crate::exit::Failure;
use crate::fleet::{Condition, Fleet, Service};
use crate::output::{self, FAINT, ODD, tame};
use crate::times::{span, took};

/// Messages on their way to the table.
const WAITING: usize = 1024;
/// Ages grow on the screen, and beats are missed, without a message.
const TICK: Duration = Duration::from_secs(1);
/// Columns of a terminal that does not say.
const WIDTH: u16 = 120;
const NOT_ALL_UP: u8 = 22;

/// See the module.
pub(crate) async fn run(args: WatchArgs) -> Result<(), Failure> {
    let client = Client::new(args.broker.config("watch", None)?)?;
    client
        .run_until(async |client: Client| watch(&client, &args).await)
        .await
}

async fn watch(client: &Client, args: &WatchArgs) -> Result<(), Failure> {
    let (arrived, mut messages) = mpsc::channel(WAITING);
    // Health last, which is retained: whoever sees it knows that beats are heard as well.
    for prefix in [KEEPALIVE_TOPIC_PREFIX, HEALTH_TOPIC_PREFIX] {
        let arrived = arrived.clone();
        let forward = move |message: InboundMessage| {
            let arrived = arrived.clone();
            async move {
                // An error means that the command is ending.
                let _ = arrived.send(message).await;
            }
        };
        client.subscribe(format!("{prefix}+"), forward).await?;
    }
    let mut view = View::new(client, args);
    tokio::select! {
        shown = async {
            match args.once {
                true => view.once(&mut messages).await,
                false => view.live(&mut messages).await,
            }
        } => shown,
        stopped = client.until_signal() => Ok(stopped?),
        () = output::nobody_reads() => Ok(()),
        // On a live screen the header says it.
        () = tell_of_the_connection(client), if !is_live(args) => Ok(()),
    }
}

fn is_live(args: &WatchArgs) -> bool {
    !args.once && !args.json && io::stdout().is_terminal()
}

/// The fleet, and how it is shown.
struct View<'a> {
    client: &'a Client,
    args: &'a WatchArgs,
    fleet: Fleet,
    stale_after: f64,
    /// What was printed of each service, where each change is a line.
    printed: BTreeMap<String, Printed>,
}

/// What is worth a line when it changes. A further beat is not.
type Printed = (Condition, Option<HealthStatus>);

impl<'a> View<'a> {
    fn new(client: &'a Client, args: &'a WatchArgs) -> Self {
        Self {
            client,
            args,
            fleet: Fleet::default(),
            stale_after: args.stale_after.as_secs_f64(),
            printed: BTreeMap::new(),
        }
    }

    fn take_in(&mut self, message: &InboundMessage) {
        let topic = message.topic.as_str();
        if let Some(id) = topic.strip_prefix(HEALTH_TOPIC_PREFIX) {
            if message.payload.is_empty() {
                return self.fleet.forget(id);
            }
            match Envelope::<HealthStatus>::from_bytes(&message.payload) {
                Ok(envelope) => self.fleet.health(id, envelope.data),
                Err(_) => self.fleet.invalid += 1,
            }
        } else if let Some(id) = topic.strip_prefix(KEEPALIVE_TOPIC_PREFIX) {
            match Heartbeat::from_bytes(&message.payload) {
                Ok(beat) => self.fleet.beat(id, &beat, unix_now()),
                Err(_) => self.fleet.invalid += 1,
            }
        }
    }

    async fn once(&mut self, messages: &mut mpsc::Receiver<InboundMessage>) -> Result<(), Failure> {
        let end = Instant::now() + self.args.listen;
        while let Ok(Some(message)) = timeout_at(end, messages.recv()).await {
            self.take_in(&message);
        }
        let now = unix_now();
        if self.args.json {
            self.changes(now)?;
        } else {
            output::line(&self.text(now))?;
        }
        if self.args.check && !self.fleet.is_well(now, self.stale_after) {
            return Err(Failure::Told(NOT_ALL_UP));
        }
        Ok(())
    }

    async fn live(&mut self, messages: &mut mpsc::Receiver<InboundMessage>) -> Result<(), Failure> {
        let screen = is_live(self.args).then(Screen::enter).transpose()?;
        let mut tick = interval(TICK);
        loop {
            tokio::select! {
                Some(message) = messages.recv() => {
                    self.take_in(&message);
                    // Whatever came with it is on the same picture.
                    while let Ok(message) = messages.try_recv() {
                        self.take_in(&message);
                    }
                    if !self.args.json && screen.is_none() {
                        continue;
                    }
                }
                _ = tick.tick() => {}
            }
            let now = unix_now();
            match &screen {
                _ if self.args.json => self.changes(now)?,
                Some(screen) => screen.show(&self.text(now))?,
                None => output::line(&self.text(now))?,
            }
        }
    }

    /// A line for each service that is not as it was.
    fn changes(&mut self, now: f64) -> Result<(), Failure> {
        for (id, service) in self.fleet.iter() {
            let current = (service.condition(now, self.stale_after), service.health.clone());
            if self.printed.get(id) != Some(&current) {
                output::json(&service.json(id, now, self.stale_after))?;
                self.printed.insert(id.to_owned(), current);
            }
        }
        self.printed.retain(|id, _| self.fleet.knows(id));
        Ok(())
    }

    /// The header and the table.
    fn text(&self, now: f64) -> String {
        let mut table = Table::new();
        let header = [
            "SERVICE",
            "STATE",
            "SINCE",
            "LAST BEAT",
            "EVERY",
            "DELAY",
            "EVENT",
            "LAST ERROR",
        ];
        table
            .load_style(presets::NOTHING)
            .enforce_styling()
            .set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        // In a pipe a service is one line, however long.
        if io::stdout().is_terminal() {
            let columns = terminal::size().map_or(WIDTH, |(columns, _)| columns);
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(columns);
        }
        for (id, service) in self.fleet.iter() {
            table.add_row(row(id, service, now, self.stale_after));
        }
        format!("{}\n\n{}", self.header(), table.trim_fmt())
    }

    fn header(&self) -> String {
        let count = self.fleet.iter().count();
        let mut text = format!(
            "{FAINT}{} · {} · {count} {}{FAINT:#}",
            self.client.config().broker,
            self.client.state().current().to_string().to_lowercase(),
            if count == 1 { "service" } else { "services" },
        );
        for (number, what) in [
            (self.fleet.invalid, "messages are invalid"),
            (self.fleet.left_out, "are left out"),
        ] {
            if number > 0 {
                text.push_str(&format!("{FAINT} · {number} {what}{FAINT:#}"));
            }
        }
        text
    }
}

fn row(id: &str, service: &Service, now: f64, stale_after: f64) -> Vec<Cell> {
    let condition = service.condition(now, stale_after);
    let health = service.health.as_ref();
    let dash = || "-".to_owned();
    let beat = service.beat;
    let state = match condition {
        Condition::Up | Condition::Beating => Cell::new(condition.name()).fg(Color::Green),
        Condition::Unhealthy | Condition::Offline => Cell::new(condition.name())
            .fg(Color::Red)
            .add_attribute(Attribute::Bold),
        Condition::Stale => Cell::new(condition.name()).fg(Color::Black).bg(Color::Yellow),
        Condition::ShutDown => Cell::new(condition.name()).fg(Color::DarkGrey),
    };
    let last_beat = Cell::new(beat.map_or_else(dash, |beat| format!("{} ago", span(now - beat.heard))));
    let last_beat = match condition {
        Condition::Stale => last_beat.fg(Color::Yellow),
        _ => last_beat,
    };
    let every = beat.and_then(|beat| beat.interval);
    let error = health.and_then(|status| status.error.as_deref());
    // What is past is worth less than what is.
    let error = match (error, &service.last_error) {
        (Some(error), _) => Cell::new(tame(error)).fg(Color::Red),
        (None, Some(past)) => Cell::new(tame(past)).fg(Color::DarkGrey),
        (None, None) => Cell::new(""),
    };
    vec![
        Cell::new(tame(id)).add_attribute(Attribute::Bold),
        state,
        Cell::new(service.since().map_or_else(dash, |since| span(now - since))),
        last_beat,
        Cell::new(every.map_or_else(dash, |every| format!("{every:.1}s"))),
        Cell::new(beat.map_or_else(dash, |beat| took(Duration::from_secs_f64(beat.delay.clamp(0.0, 1e6))))),
        Cell::new(tame(health.and_then(|status| status.event.as_deref()).unwrap_or("-"))),
        error,
    ]
}

/// The terminal's second screen; the first comes back when this is dropped.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(Self)
    }

    /// Over the picture before, line by line, so that nothing flickers.
    fn show(&self, text: &str) -> io::Result<()> {
        let rows = terminal::size().map_or(usize::MAX, |(_, rows)| usize::from(rows));
        let mut out = io::stdout();
        for (row, line) in fitting(text, rows).iter().enumerate() {
            let row = u16::try_from(row).unwrap_or(u16::MAX);
            execute!(
                out,
                cursor::MoveTo(0, row),
                terminal::Clear(terminal::ClearType::CurrentLine)
            )?;
            // Not together with the above, because `NO_COLOR` takes the colours alone.
            write!(anstream::stdout().lock(), "{line}")?;
        }
        execute!(out, terminal::Clear(terminal::ClearType::FromCursorDown))
    }
}

/// As many lines as there is room for; what is left out is told on the last one.
fn fitting(text: &str, rows: usize) -> Vec<String> {
    let rows = rows.max(1);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    if lines.len() > rows {
        let hidden = lines.len() - rows + 1;
        lines.truncate(rows - 1);
        lines.push(format!(
            "{ODD}… {hidden} more lines: make the window larger, or use --once{ODD:#}"
        ));
    }
    lines
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told() {
        assert_eq!(fitting("a\nb\nc", 3), ["a", "b", "c"]);
        let cut = fitting("a\nb\nc\nd", 3);
        assert_eq!(cut.len(), 3);
        assert!(cut[2].contains("2 more lines"), "{cut:?}");
        assert_eq!((fitting("a\nb", 1).len(), fitting("a\nb", 0).len()), (1, 1));
    }
}
