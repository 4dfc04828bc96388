//! When to send PINGREQ and when to give the peer up. Decisions only: no clock,
//! no timer, no socket.
//!
//! PINGREQ is due when nothing was *sent* for the keep-alive time: that is what
//! the broker measures (MQTT 3.1.1 section 3.1.2.10). It is also due when nothing
//! was *read* for that time, or a client that only sends would never notice that
//! nobody answers. Reading that is paused at the inbound budget proves nothing
//! either way, so then only the first rule holds and the peer is not given up.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for a sign of life after a PINGREQ.
const MAX_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing to do; look again then. `None` where keepalive is off.
    Wait(Option<Instant>),
    /// Send PINGREQ now.
    Ping,
    /// The peer did not answer.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Keepalive {
    /// `None`: off.
    interval: Option<Duration>,
    last_sent: Instant,
    last_read: Instant,
    last_ping: Option<Instant>,
    /// Since when a sign of life is awaited.
    awaited: Option<Instant>,
    reading: bool,
}

impl Keepalive {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval: (!interval.is_zero()).then_some(interval),
            last_sent: now,
            last_read: now,
            last_ping: None,
            awaited: None,
            reading: true,
        }
    }

    /// How long the peer may stay silent after a PINGREQ.
    pub(crate) fn patience(&self) -> Duration {
        self.interval.unwrap_or(MAX_PATIENCE).min(MAX_PATIENCE)
    }

    /// Bytes went out.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Bytes came in: a sign of life, whatever they are.
    pub(crate) fn read(&mut self, now: Instant) {
        self.last_read = now;
        self.awaited = None;
    }

    /// Whether the socket is read at present. An answer that had to lie there
    /// unread gets its full time once reading goes on.
    pub(crate) fn set_reading(&mut self, reading: bool, now: Instant) {
        if reading && !self.reading {
            self.last_read = now;
            self.awaited = self.awaited.map(|_| now);
        }
        self.reading = reading;
    }

    /// What to do. After [`Action::Ping`] call it again: it takes note of the ping.
    pub(crate) fn check(&mut self, now: Instant) -> Action {
        let Some(interval) = self.interval else {
            return Action::Wait(None);
        };
        let mut next = None;
        if let (Some(since), true) = (self.awaited, self.reading) {
            let dead = since + self.patience();
            if now >= dead {
                return Action::Dead;
            }
            next = Some(dead);
        }
        // A PINGREQ that cannot leave, because the peer does not read, counts as
        // sent: another one each interval, not one each look.
        let quiet_since = self.last_ping.map_or(self.last_sent, |ping| ping.max(self.last_sent));
        let mut due = quiet_since + interval;
        if self.reading && self.awaited.is_none() {
            due = due.min(self.last_read + interval);
        }
        if now >= due {
            self.last_ping = Some(now);
            self.awaited.get_or_insert(now);
            return Action::Ping;
        }
        Action::Wait(Some(next.map_or(due, |next| next.min(due))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn pings_when_nothing_was_sent_and_gives_up_when_nothing_comes() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(seconds(60), start);
        assert_eq!(keepalive.check(start), Action::Wait(Some(start + seconds(60))));
        keepalive.sent(start + seconds(30));
        keepalive.read(start + seconds(30));
        assert_eq!(
            keepalive.check(start + seconds(60)),
            Action::Wait(Some(start + seconds(90)))
        );
        let pinged = start + seconds(90);
        assert_eq!(keepalive.check(pinged), Action::Ping);
        keepalive.sent(pinged);
        assert_eq!(keepalive.check(pinged), Action::Wait(Some(pinged + seconds(10))));
        assert_eq!(keepalive.check(pinged + seconds(10)), Action::Dead);
    }

    #[test]
    fn any_byte_read_is_an_answer() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(seconds(1), start);
        let mut now = start + seconds(1);
        assert_eq!(keepalive.check(now), Action::Ping);
        keepalive.sent(now);
        keepalive.read(now);
        assert_eq!(keepalive.check(now), Action::Wait(Some(now + seconds(1))));
        now += seconds(1);
        assert_eq!(keepalive.check(now), Action::Ping);
    }

    #[test]
    fn a_client_that_only_sends_notices_a_silent_peer() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(seconds(60), start);
        for n in 1..60 {
            keepalive.sent(start + seconds(n));
            assert!(matches!(keepalive.check(start + seconds(n)), Action::Wait(_)));
        }
        keepalive.sent(start + seconds(60));
        assert_eq!(keepalive.check(start + seconds(60)), Action::Ping);
        assert_eq!(keepalive.check(start + seconds(70)), Action::Dead);
    }

    #[test]
    fn paused_reading_pings_on_and_kills_nobody() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(seconds(10), start);
        keepalive.set_reading(false, start);
        for n in 1..20 {
            let now = start + seconds(10 * n);
            assert_eq!(keepalive.check(now), Action::Ping, "after {n} intervals");
            assert_eq!(keepalive.check(now), Action::Wait(Some(now + seconds(10))));
            keepalive.sent(now);
        }
        let resumed = start + seconds(191);
        keepalive.set_reading(true, resumed);
        assert!(matches!(keepalive.check(resumed), Action::Wait(_)));
        assert!(matches!(
            keepalive.check(resumed + seconds(9)),
            Action::Ping | Action::Wait(_)
        ));
        assert_eq!(keepalive.check(resumed + seconds(10)), Action::Dead);
    }

    #[test]
    fn a_ping_that_cannot_leave_is_not_repeated_at_each_look() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(seconds(60), start);
        let now = start + seconds(60);
        assert_eq!(keepalive.check(now), Action::Ping);
        for millis in 0..100 {
            assert!(matches!(
                keepalive.check(now + Duration::from_millis(millis)),
                Action::Wait(_)
            ));
        }
    }

    #[test]
    fn zero_turns_it_off() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(Duration::ZERO, start);
        assert_eq!(keepalive.check(start + seconds(1_000_000)), Action::Wait(None));
    }
}
