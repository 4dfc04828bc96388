//! The heartbeat and its watchdog: pure decisions, no clock and no connection.
//!
//! A beat written into a dead socket proves nothing. So the client subscribes to its
//! own keepalive topic and sees its beats come back; any other packet proves life as
//! well. Three beats in a row without a packet in between end the link. Silence while
//! reading is paused proves nothing either way and does not count.

use std::time::Duration;

use tars_ports::Activity;
use tokio::time::Instant;

/// Beats in a row that may stay unanswered.
const PATIENCE: u32 = 3;

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// Send a beat, then report it with [`Heartbeat::sent`].
    Beat,
    /// The link is dead.
    Dead,
    /// Beats do not come back here and never did: from now on only writing can fail.
    NoEcho,
    Nothing,
}

/// See the module. Beats fall on whole intervals, judgement on the halves between:
/// so the third unanswered beat has had half an interval for its echo.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    next_beat: Instant,
    next_look: Option<Instant>,
    packets_seen: u64,
    unanswered: u32,
    /// Beats come back. If the broker refuses that, only writing can fail.
    pub(crate) echo: bool,
    /// One has come back on this connection. A broker may grant the filter and send
    /// nothing on it all the same (Mosquitto with an ACL file): that is no dead link.
    echo_seen: bool,
}

impl Heartbeat {
    /// For a connection that begins now: the first beat is due at once.
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next_beat: now,
            next_look: None,
            packets_seen: 0,
            unanswered: 0,
            echo: true,
            echo_seen: false,
        }
    }

    /// When to call [`on_time`](Self::on_time) next.
    pub(crate) fn next(&self) -> Instant {
        self.next_look.map_or(self.next_beat, |look| look.min(self.next_beat))
    }

    pub(crate) fn on_time(&mut self, now: Instant, activity: Activity) -> Pulse {
        if activity.packets_read != self.packets_seen || activity.reading_paused {
            self.packets_seen = activity.packets_read;
            if self.echo {
                self.unanswered = 0;
            }
        }
        if self.next_look.is_some_and(|look| look <= now) {
            self.next_look = None;
            if self.unanswered >= PATIENCE {
                if self.echo && !self.echo_seen && self.packets_seen > 0 {
                    self.echo = false;
                    self.unanswered = 0;
                    return Pulse::NoEcho;
                }
                return Pulse::Dead;
            }
        }
        if self.next_beat <= now {
            // A late timer does not make up for missed beats in a burst.
            self.next_beat = now + self.interval;
            self.next_look = Some(now + self.interval / 2);
            return Pulse::Beat;
        }
        Pulse::Nothing
    }

    /// A beat came back.
    pub(crate) fn echoed(&mut self) {
        self.echo_seen = true;
    }

    /// A beat was, or could not be, handed to the connection.
    pub(crate) fn sent(&mut self, written: bool) {
        match (written, self.echo) {
            (true, false) => self.unanswered = 0,
            _ => self.unanswered += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    /// Runs for `seconds` and says when the link was given up, if it was.
    fn run(seconds: u64, echo: bool, mut activity: impl FnMut(f64) -> Activity) -> Option<f64> {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        heartbeat.echo = echo;
        heartbeat.echoed();
        loop {
            let now = heartbeat.next();
            let at = (now - start).as_secs_f64();
            if at > seconds as f64 {
                return None;
            }
            match heartbeat.on_time(now, activity(at)) {
                Pulse::Dead => return Some(at),
                Pulse::Beat => heartbeat.sent(true),
                Pulse::Nothing | Pulse::NoEcho => {}
            }
        }
    }

    #[test]
    fn a_silent_peer_is_given_up_after_about_three_intervals() {
        let gone = run(60, true, |at| {
            Activity::new(if at < 10.1 { (at * 10.0) as u64 } else { 101 }, false)
        });
        let silent_for = gone.expect("it is noticed") - 10.1;
        assert!((2.0..=4.0).contains(&silent_for), "after {silent_for} s");
    }

    #[test]
    fn an_answer_that_is_slow_but_comes_is_no_failure() {
        // An echo 0.7 s after each beat.
        assert_eq!(run(60, true, |at| Activity::new((at + 0.3) as u64, false)), None);
    }

    #[test]
    fn paused_reading_is_no_failure() {
        assert_eq!(run(60, true, |_| Activity::new(0, true)), None);
    }

    #[test]
    fn a_broker_that_answers_and_never_echoes_is_no_dead_one() {
        let start = Instant::now();
        let judged = |packets_read: u64| {
            let mut heartbeat = Heartbeat::new(INTERVAL, start);
            std::iter::from_fn(|| {
                let pulse = heartbeat.on_time(heartbeat.next(), Activity::new(packets_read, false));
                if pulse == Pulse::Beat {
                    heartbeat.sent(true);
                }
                Some(pulse)
            })
            .take(60)
            .find(|pulse| matches!(pulse, Pulse::Dead | Pulse::NoEcho))
        };
        assert_eq!(judged(1), Some(Pulse::NoEcho), "it sent SUBACK at least");
        assert_eq!(judged(0), Some(Pulse::Dead));
    }

    #[test]
    fn without_an_echo_only_writing_can_fail() {
        assert_eq!(run(60, false, |_| Activity::new(0, false)), None);
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        heartbeat.echo = false;
        (0..3).for_each(|_| heartbeat.sent(false));
        heartbeat.next_look = Some(start);
        assert_eq!(heartbeat.on_time(start, Activity::new(9, false)), Pulse::Dead);
    }
}
