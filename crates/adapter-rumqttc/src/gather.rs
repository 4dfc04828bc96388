//! Whether to let packets gather in the socket between two reads. Decisions only: no
//! clock, no timer, no socket.
//!
//! A reader that waits is woken for nearly every packet, and both sides pay for it. Where
//! many come, reading them by the clock costs less and lets more through. But a peer that
//! waits for an answer after every few would be slowed down: so packets gather only as
//! long as about as many come as did without.

use std::time::Duration;

use tokio::time::Instant;

/// From one read to the next; a timer of tokio adds up to a millisecond.
const REST: Duration = Duration::from_micros(400);
/// How long packets are counted.
const WINDOW: Duration = Duration::from_millis(50);
/// Packets a second from which on it is worth it.
const MANY: u128 = 20_000;
/// More packets in one read have gathered by themselves.
const FEW: u64 = 16;
/// In four reads; where fewer come, each waits for our answer to the one before.
const ALONE: u64 = 6;
/// Then what comes without gathering is counted anew.
const RENEWAL: Duration = Duration::from_secs(10);
/// From a failure to the next attempt, doubled with each that fails soon.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Gather {
    /// Begin of the window.
    since: Instant,
    /// Packets until then.
    counted: u64,
    /// Reads in the window.
    reads: u64,
    gathering: Option<Gathering>,
    not_before: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Gathering {
    begin: Instant,
    /// Packets a second before.
    usual: u128,
    /// Fewer came in the last window.
    fewer: bool,
}

impl Gather {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            counted: 0,
            reads: 0,
            gathering: None,
            not_before: now,
            pause: FIRST_PAUSE,
        }
    }

    /// Bytes came in; so many packets have come in all. Until when to leave the next ones
    /// in the socket.
    pub(crate) fn read(&mut self, packets: u64, now: Instant) -> Option<Instant> {
        self.reads += 1;
        let elapsed = now - self.since;
        if elapsed >= WINDOW {
            let came = packets - self.counted;
            let rate = u128::from(came) * 1_000_000_000 / elapsed.as_nanos();
            let few_at_once = came < FEW * self.reads && 4 * came >= ALONE * self.reads;
            self.judge(rate, few_at_once, now);
            (self.since, self.counted, self.reads) = (now, packets, 0);
        }
        if self.gathering.is_some() && self.reads >= 4 && packets - self.counted < 4 * self.reads {
            // Nothing gathers.
            self.fail(now);
        }
        self.gathering.as_ref().map(|_| now + REST)
    }

    fn judge(&mut self, rate: u128, few_at_once: bool, now: Instant) {
        match &mut self.gathering {
            None => {
                if rate >= MANY && few_at_once && now >= self.not_before {
                    self.gathering = Some(Gathering {
                        begin: now,
                        usual: rate,
                        fewer: false,
                    });
                }
            }
            Some(gathering) if now - gathering.begin >= RENEWAL => {
                self.gathering = None;
                self.pause = FIRST_PAUSE;
            }
            Some(gathering) => {
                // Once may be chance: another process had the processor.
                let fewer = rate * 10 < gathering.usual * 9;
                if fewer && gathering.fewer {
                    self.fail(now);
                } else {
                    gathering.fewer = fewer;
                }
            }
        }
    }

    fn fail(&mut self, now: Instant) {
        self.gathering = None;
        self.not_before = now + self.pause;
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays reads of so many packets each, at so many packets a second.
    struct Flood {
        gather: Gather,
        now: Instant,
        packets: u64,
    }

    impl Flood {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                gather: Gather::new(now),
                now,
                packets: 0,
            }
        }

        /// Whether packets gather after so many windows.
        fn play(&mut self, windows: u32, rate: u64, at_once: u64) -> bool {
            let end = self.now + windows * WINDOW;
            let mut rest = None;
            while self.now < end {
                let at_once = if self.gather.gathering.is_some() {
                    at_once.max(rate / 1000)
                } else {
                    at_once
                };
                self.now += Duration::from_nanos(1_000_000_000 * at_once / rate);
                self.packets += at_once;
                rest = self.gather.read(self.packets, self.now);
            }
            assert!(rest.is_none_or(|until| until == self.now + REST));
            rest.is_some()
        }
    }

    #[test]
    fn gathers_where_many_packets_come_a_few_at_once() {
        assert!(!Flood::new().play(10, 19_000, 2), "too few");
        assert!(!Flood::new().play(10, 100_000, 20), "they gather by themselves");
        assert!(!Flood::new().play(10, 100_000, 1), "each waits for our answer");
        let mut flood = Flood::new();
        assert!(flood.play(2, 25_000, 2));
        assert!(flood.play(20, 50_000, 70), "more than before");
        assert!(flood.play(20, 23_000, 30), "about as many");
    }

    #[test]
    fn stops_when_fewer_come_twice_in_turn() {
        let mut flood = Flood::new();
        assert!(flood.play(2, 50_000, 2));
        for _ in 0..5 {
            assert!(flood.play(1, 30_000, 30), "chance");
            assert!(flood.play(2, 50_000, 70));
        }
        assert!(!flood.play(3, 30_000, 30));
    }

    #[test]
    fn stops_at_once_where_nothing_gathers() {
        let mut flood = Flood::new();
        assert!(flood.play(2, 25_000, 2));
        for _ in 0..5 {
            flood.now += Duration::from_millis(1);
            flood.packets += 1;
            flood.gather.read(flood.packets, flood.now);
        }
        assert!(flood.gather.gathering.is_none());
    }

    #[test]
    fn tries_again_after_a_pause_that_grows_to_a_minute() {
        let mut flood = Flood::new();
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(flood.play(3, 50_000, 2));
            assert!(!flood.play(3, 10_000, 20));
            let end = flood.now + Duration::from_secs(pause) - 6 * WINDOW;
            while flood.now < end {
                assert!(!flood.play(1, 50_000, 2), "in a pause of {pause} s");
            }
            flood.play(6, 50_000, 2);
        }
    }

    #[test]
    fn looks_now_and_then_how_many_come_without() {
        let mut flood = Flood::new();
        assert!(flood.play(2, 50_000, 2));
        assert!(flood.play(190, 60_000, 70));
        while flood.play(1, 60_000, 70) {}
        assert!(flood.play(2, 90_000, 2), "no pause: it did not fail");
        assert!(!flood.play(3, 60_000, 70), "fewer than are usual by now");
    }
}
