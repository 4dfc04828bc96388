//! What is known of every service: its last health, its last heartbeat, and what follows from
//! them. No MQTT and no clock here: times are given, in Unix seconds.
//!
//! Invariant: at most [`MOST`] services are kept, whatever is published.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tars_mqtt::{HealthStatus, Heartbeat};

/// Services that are kept; those beyond are counted.
const MOST: usize = 10_000;
/// After so many of its intervals without a beat a service is stale.
const MISSED_BEATS: f64 = 3.0;

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It says so.
    Up,
    /// It says so.
    Unhealthy,
    /// Its last will says so.
    Offline,
    /// It said so and went.
    ShutDown,
    /// It says that it is up, or only ever beat, and its beats stay away.
    Stale,
    /// It beats and reports no health.
    Beating,
}

impl Condition {
    /// As shown.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unhealthy => "unhealthy",
            Self::Offline => "offline",
            Self::ShutDown => "shut down",
            Self::Stale => "stale",
            Self::Beating => "beating",
        }
    }
}

/// The last beat that was heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat {
    /// When it was heard.
    pub(crate) heard: f64,
    /// How long it was on its way, as far as the clocks agree.
    pub(crate) delay: f64,
    /// Since the one before.
    pub(crate) interval: Option<f64>,
}

/// What is known of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    pub(crate) health: Option<HealthStatus>,
    pub(crate) beat: Option<Beat>,
    /// Since when its health is what it is.
    since: f64,
    /// What it last said was wrong, however well it is now.
    pub(crate) last_error: Option<String>,
}

/// All of them, by client id.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    services: BTreeMap<String, Service>,
    /// Client ids beyond the bound: messages, not services.
    pub(crate) left_out: u64,
    /// Health messages that are none.
    pub(crate) invalid: u64,
}

impl Fleet {
    fn service(&mut self, id: &str) -> Option<&mut Service> {
        if self.services.len() >= MOST && !self.services.contains_key(id) {
            self.left_out += 1;
            return None;
        }
        Some(self.services.entry(id.to_owned()).or_default())
    }

    /// A health status was heard.
    pub(crate) fn health(&mut self, id: &str, status: HealthStatus) {
        let Some(service) = self.service(id) else { return };
        if let Some(error) = &status.error {
            service.last_error = Some(error.clone());
        }
        let goes_on = service.health.as_ref().is_some_and(|last| same(last, &status));
        if !goes_on {
            service.since = status.timestamp;
        }
        service.health = Some(status);
    }

    /// The retained health was cleared: whoever did that wants it forgotten.
    pub(crate) fn forget(&mut self, id: &str) {
        self.services.remove(id);
    }

    /// A heartbeat was heard.
    pub(crate) fn beat(&mut self, id: &str, beat: &Heartbeat, now: f64) {
        let Some(service) = self.service(id) else { return };
        service.beat = Some(Beat {
            heard: now,
            delay: now - beat.timestamp,
            interval: service.beat.map(|last| now - last.heard),
        });
    }

    pub(crate) fn knows(&self, id: &str) -> bool {
        self.services.contains_key(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Service)> {
        self.services.iter().map(|(id, service)| (id.as_str(), service))
    }

    /// Whether there is a service, and every one is well.
    pub(crate) fn is_well(&self, now: f64, stale_after: f64) -> bool {
        let well =
            |service: &Service| matches!(service.condition(now, stale_after), Condition::Up | Condition::Beating);
        !self.services.is_empty() && self.services.values().all(well)
    }
}

fn same(last: &HealthStatus, next: &HealthStatus) -> bool {
    last.ok == next.ok && said_by_the_end(last) == said_by_the_end(next)
}

/// The two words of the library itself that mean "it is gone".
fn said_by_the_end(status: &HealthStatus) -> Option<Condition> {
    match status.event.as_deref() {
        Some("offline") if !status.ok => Some(Condition::Offline),
        Some("shutdown") if !status.ok => Some(Condition::ShutDown),
        _ => None,
    }
}

impl Service {
    /// How it is at this moment; `stale_after` counts until its interval is known.
    pub(crate) fn condition(&self, now: f64, stale_after: f64) -> Condition {
        let limit = |beat: &Beat| {
            beat.interval
                .map_or(stale_after, |interval| MISSED_BEATS * interval.max(1.0))
        };
        let silent = self.beat.is_some_and(|beat| now - beat.heard > limit(&beat));
        match &self.health {
            Some(status) => match said_by_the_end(status) {
                Some(gone) => gone,
                None if silent => Condition::Stale,
                None if status.ok => Condition::Up,
                None => Condition::Unhealthy,
            },
            None if silent => Condition::Stale,
            None => Condition::Beating,
        }
    }

    /// Since when, if it ever said.
    pub(crate) fn since(&self) -> Option<f64> {
        self.health.as_ref().map(|_| self.since)
    }

    /// What a script reads.
    pub(crate) fn json(&self, id: &str, now: f64, stale_after: f64) -> Value {
        let health = self.health.as_ref();
        json!({
            "service": id,
            "state": self.condition(now, stale_after).name(),
            "ok": health.map(|status| status.ok),
            "event": health.and_then(|status| status.event.as_deref()),
            "error": health.and_then(|status| status.error.as_deref()),
            "last_error": self.last_error,
            "since": self.since(),
            "last_beat": self.beat.map(|beat| beat.heard),
            "beat_interval": self.beat.and_then(|beat| beat.interval),
            "beat_delay": self.beat.map(|beat| beat.delay),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE_AFTER: f64 = 90.0;

    fn status(ok: bool, event: &str, at: f64) -> HealthStatus {
        let mut status = HealthStatus::new(ok).with_event(event);
        status.timestamp = at;
        status
    }

    fn beat(at: f64) -> Heartbeat {
        let mut beat = Heartbeat::now();
        beat.timestamp = at;
        beat
    }

    fn condition(fleet: &Fleet, id: &str, now: f64) -> Option<Condition> {
        let found = fleet.iter().find(|(name, _)| *name == id);
        found.map(|(_, service)| service.condition(now, STALE_AFTER))
    }

    #[test]
    fn health_says_how_a_service_is() {
        let mut fleet = Fleet::default();
        let table = [
            (status(true, "connected", 1.0), Condition::Up),
            (status(false, "overheated", 2.0), Condition::Unhealthy),
            (status(false, "offline", 3.0), Condition::Offline),
            (status(false, "shutdown", 4.0), Condition::ShutDown),
            (status(true, "offline", 5.0), Condition::Up),
        ];
        for (status, expected) in table {
            fleet.health("a", status);
            assert_eq!(condition(&fleet, "a", 1000.0), Some(expected));
        }
        assert!(fleet.is_well(1000.0, STALE_AFTER));
        fleet.forget("a");
        assert!(!fleet.is_well(1000.0, STALE_AFTER), "nobody is there");
    }

    #[test]
    fn three_missed_beats_make_it_stale() {
        let mut fleet = Fleet::default();
        fleet.health("a", status(true, "connected", 0.0));
        fleet.beat("a", &beat(9.9), 10.0);
        assert_eq!(
            condition(&fleet, "a", 99.0),
            Some(Condition::Up),
            "its interval is not known"
        );
        assert_eq!(condition(&fleet, "a", 101.0), Some(Condition::Stale));
        fleet.beat("a", &beat(14.9), 15.0);
        assert_eq!(condition(&fleet, "a", 29.0), Some(Condition::Up));
        assert_eq!(condition(&fleet, "a", 31.0), Some(Condition::Stale));
        fleet.health("a", status(false, "offline", 32.0));
        assert_eq!(condition(&fleet, "a", 40.0), Some(Condition::Offline), "that says more");
    }

    #[test]
    fn a_service_without_health_is_known_by_its_beats() {
        let mut fleet = Fleet::default();
        fleet.beat("a", &beat(1.0), 1.0);
        assert_eq!(condition(&fleet, "a", 2.0), Some(Condition::Beating));
        assert_eq!(condition(&fleet, "a", 100.0), Some(Condition::Stale));
    }

    #[test]
    fn since_is_when_it_changed_and_not_when_it_last_spoke() {
        let mut fleet = Fleet::default();
        let since = |fleet: &Fleet| fleet.iter().next().and_then(|(_, service)| service.since());
        fleet.health("a", status(true, "connected", 1.0));
        fleet.health("a", status(true, "reconnected", 5.0));
        assert_eq!(since(&fleet), Some(1.0));
        fleet.health("a", status(false, "hot", 7.0).with_error("97 °C"));
        fleet.health("a", status(true, "cooled", 9.0));
        assert_eq!(since(&fleet), Some(9.0));
        let last_error = fleet.iter().next().and_then(|(_, service)| service.last_error.clone());
        assert_eq!(last_error.as_deref(), Some("97 °C"));
    }

    #[test]
    fn there_is_a_bound() {
        let mut fleet = Fleet::default();
        for number in 0..MOST + 5 {
            fleet.beat(&number.to_string(), &beat(0.0), 0.0);
        }
        assert_eq!((fleet.iter().count(), fleet.left_out), (MOST, 5));
    }
}
