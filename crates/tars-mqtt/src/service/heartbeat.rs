//! The heartbeat and its watchdog: pure decisions, no clock and no connection.
//!
//! A beat written into a dead socket proves nothing. So the client subscribes to its
//! own keepalive topic and sees its beats come back; any other packet proves life as
//! well. Three beats in a row without a packet in between end the link. Silence while
//! reading is paused proves nothing either way and does not count.
//!
//! Where beats have never come back (a broker may refuse the filter, or grant it and
//! send nothing all the same, as Mosquitto with an ACL file does), the broker is asked
//! something that it must answer before the link is given up.

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
    /// Beats have not come back here so far: ask something that must be answered.
    Ask,
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
    /// A beat has come back on this connection.
    echo_seen: bool,
    /// The broker was asked, and nothing has come since.
    asked: bool,
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
            echo_seen: false,
            asked: false,
        }
    }

    /// When to call [`on_time`](Self::on_time) next.
    pub(crate) fn next(&self) -> Instant {
        self.next_look.map_or(self.next_beat, |look| look.min(self.next_beat))
    }

    pub(crate) fn on_time(&mut self, now: Instant, activity: Activity) -> Pulse {
        if activity.packets_read != self.packets_seen || activity.reading_paused {
            self.packets_seen = activity.packets_read;
            self.unanswered = 0;
            self.asked = false;
        }
        if self.next_look.is_some_and(|look| look <= now) {
            self.next_look = None;
            if self.unanswered >= PATIENCE {
                if self.echo_seen || std::mem::replace(&mut self.asked, true) {
                    return Pulse::Dead;
                }
                return Pulse::Ask;
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

    /// A beat was handed to the connection, or could not be: unanswered so far.
    pub(crate) fn sent(&mut self) {
        self.unanswered += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    /// Runs for `seconds` and says when the link was given up, if it was.
    fn run(seconds: u64, mut activity: impl FnMut(f64) -> Activity) -> Option<f64> {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, start);
        heartbeat.echoed();
        loop {
            let now = heartbeat.next();
            let at = (now - start).as_secs_f64();
            if at > seconds as f64 {
                return None;
            }
            match heartbeat.on_time(now, activity(at)) {
                Pulse::Dead => return Some(at),
                Pulse::Beat => heartbeat.sent(),
                Pulse::Nothing | Pulse::Ask => {}
            }
        }
    }

    #[test]
    fn a_silent_peer_is_given_up_after_about_three_intervals() {
        let gone = run(60, |at| {
            Activity::new(if at < 10.1 { (at * 10.0) as u64 } else { 101 }, false)
        });
        let silent_for = gone.expect("it is noticed") - 10.1;
        assert!((2.0..=4.0).contains(&silent_for), "after {silent_for} s");
    }

    #[test]
    fn an_answer_that_is_slow_but_comes_is_no_failure() {
        // An echo 0.7 s after each beat.
        assert_eq!(run(60, |at| Activity::new((at + 0.3) as u64, false)), None);
    }

    #[test]
    fn paused_reading_is_no_failure() {
        assert_eq!(run(60, |_| Activity::new(0, true)), None);
    }

    /// What becomes of a broker that never echoes: how often it was asked, and whether
    /// it was given up.
    fn without_echo(answers: bool) -> (u32, bool) {
        let mut heartbeat = Heartbeat::new(INTERVAL, Instant::now());
        let (mut packets, mut asked) = (1, 0);
        for _ in 0..100 {
            match heartbeat.on_time(heartbeat.next(), Activity::new(packets, false)) {
                Pulse::Beat => heartbeat.sent(),
                Pulse::Ask => {
                    asked += 1;
                    packets += u64::from(answers);
                }
                Pulse::Dead => return (asked, true),
                Pulse::Nothing => {}
            }
        }
        (asked, false)
    }

    #[test]
    fn a_broker_that_never_echoes_is_asked_before_it_is_given_up() {
        assert_eq!(without_echo(false), (1, true));
        let (asked, dead) = without_echo(true);
        assert!(asked > 5 && !dead);
    }
}
