//! What was accepted, and what was handled: kept outside the processes under test, from what they
//! tell while they live.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::fleet::{FLEET, Listening};
use super::line::{Event, Line};

/// Of one lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The next number of a source that begins.
    pub(super) next: u64,
    pub(super) attempted: u64,
    pub(super) accepted: u64,
}

/// Of one subscription of one worker.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) service: &'static str,
    pub(super) listening: Listening,
    /// Accepted, and handled by no life yet; since when.
    pub(super) missing: BTreeMap<Event, Instant>,
    /// Of those: acknowledged by a broker that was killed before it delivered or saved them.
    pub(super) forgotten: BTreeSet<Event>,
    /// Handled by any life.
    handled: HashSet<Event>,
    handled_in_this_life: HashSet<Event>,
    begun: HashSet<Event>,
    /// Handled a second time in one life.
    pub(super) repeated: BTreeSet<Event>,
    /// Handled again by a later life than the first that did.
    pub(super) again: u64,
    /// Runs that a SIGKILL ended.
    pub(super) cut_off: u64,
}

/// Of one service.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    pub(super) life: u32,
    pub(super) connects: u64,
    pub(super) sessions_lost: u64,
    pub(super) is_connected: bool,
    /// Said so since it was told to pause.
    pub(super) is_quiet: bool,
    /// Handlers that hang, as they were told.
    pub(super) hung: u64,
    /// Filters that the broker granted to this life, since they were last taken away.
    pub(super) subscribed: usize,
    lost_at: Option<Instant>,
    pub(super) longest_outage: Duration,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) lanes: BTreeMap<char, Lane>,
    pub(super) subscriptions: Vec<Subscription>,
    /// As [`FLEET`].
    pub(super) services: Vec<Attendance>,
    pub(super) problems: Vec<String>,
}

/// The book, and whoever waits for something in it. Clones are the same ledger.
#[derive(Clone)]
pub(super) struct Ledger(Arc<watch::Sender<Book>>);

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Book::new())))
    }

    /// Reads it; the processes' lines wait meanwhile.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.0.borrow())
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let mut changed = None;
        self.0.send_modify(|book| changed = Some(change(book)));
        changed.expect("send_modify runs it")
    }

    /// Waits until it is so; whether that came about in time.
    pub(super) async fn until(&self, limit: Duration, mut is_so: impl FnMut(&Book) -> bool) -> bool {
        let mut reader = self.0.subscribe();
        let waiting = reader.wait_for(|book| is_so(book));
        matches!(tokio::time::timeout(limit, waiting).await, Ok(Ok(_)))
    }
}

impl Book {
    fn new() -> Self {
        let lanes = FLEET.iter().filter_map(|service| service.lane());
        let subscriptions = FLEET.iter().flat_map(|service| {
            let of_service = service.routes().iter();
            of_service.map(|listening| Subscription::new(service.name, *listening))
        });
        Self {
            lanes: lanes.map(|lane| (lane, Lane::default())).collect(),
            subscriptions: subscriptions.collect(),
            services: FLEET.iter().map(|_| Attendance::default()).collect(),
            problems: Vec::new(),
        }
    }

    /// A new life of the service begins, after the last one told all it had to tell.
    pub(super) fn begin_life(&mut self, service: usize) {
        for subscription in self.of(service) {
            subscription.handled_in_this_life.clear();
            subscription.cut_off += subscription.begun.drain().count() as u64;
        }
        let attendance = &mut self.services[service];
        attendance.life += 1;
        attendance.is_connected = false;
        attendance.is_quiet = false;
        attendance.subscribed = 0;
        // A death is no outage: the time without a process is the schedule's.
        attendance.lost_at = None;
    }

    /// Enters what a service told.
    pub(super) fn enter(&mut self, service: usize, line: Line) {
        match line {
            Line::Attempt(event) => {
                let lane = self.lanes.entry(event.lane).or_default();
                lane.attempted += 1;
                lane.next = event.n + 1;
            }
            Line::Accepted(event) => {
                self.lanes.entry(event.lane).or_default().accepted += 1;
                let now = Instant::now();
                let takers = self.subscriptions.iter_mut();
                for taker in takers.filter(|taker| taker.listening.lanes.contains(event.lane)) {
                    if !taker.handled.contains(&event) {
                        taker.missing.insert(event, now);
                    }
                }
            }
            Line::Failed(event, why) => self
                .problems
                .push(format!("{}: publishing {event} failed: {why}", FLEET[service].name)),
            Line::Begin(route, event) => self.subscription(service, route).begin(event),
            Line::End(route, event) => self.subscription(service, route).end(event),
            line => self.services[service].enter(&line),
        }
    }

    fn of(&mut self, service: usize) -> impl Iterator<Item = &mut Subscription> {
        let name = FLEET[service].name;
        self.subscriptions.iter_mut().filter(move |one| one.service == name)
    }

    fn subscription(&mut self, service: usize, route: usize) -> &mut Subscription {
        self.of(service).nth(route).expect("the fleet has this route")
    }

    /// A broker was killed in full flight, and every source has told what it had
    /// acknowledged. What it neither delivered nor saved is gone with it.
    pub(super) fn broker_forgot(&mut self, saved: &HashSet<Event>) {
        for subscription in &mut self.subscriptions {
            let gone = subscription.missing.keys().filter(|event| !saved.contains(event));
            subscription.forgotten.extend(gone);
        }
    }

    /// How many are missing and can still come, over all subscriptions.
    pub(super) fn left(&self) -> usize {
        self.subscriptions.iter().map(Subscription::left).sum()
    }

    pub(super) fn accepted(&self) -> u64 {
        self.lanes.values().map(|lane| lane.accepted).sum()
    }

    pub(super) fn attempted(&self) -> u64 {
        self.lanes.values().map(|lane| lane.attempted).sum()
    }
}

impl Subscription {
    fn new(service: &'static str, listening: Listening) -> Self {
        Self {
            service,
            listening,
            missing: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            handled: HashSet::new(),
            handled_in_this_life: HashSet::new(),
            begun: HashSet::new(),
            repeated: BTreeSet::new(),
            again: 0,
            cut_off: 0,
        }
    }

    fn begin(&mut self, event: Event) {
        self.begun.insert(event);
    }

    fn end(&mut self, event: Event) {
        self.begun.remove(&event);
        self.missing.remove(&event);
        self.forgotten.remove(&event);
        let is_first = self.handled.insert(event);
        if !self.handled_in_this_life.insert(event) {
            self.repeated.insert(event);
        } else if !is_first {
            self.again += 1;
        }
    }

    fn left(&self) -> usize {
        // What is forgotten is missing.
        self.missing.len() - self.forgotten.len()
    }

    /// What can still come and does not; and when it was accepted.
    pub(super) fn lost(&self) -> impl Iterator<Item = (&Event, &Instant)> {
        self.missing.iter().filter(|(event, _)| !self.forgotten.contains(event))
    }

    pub(super) fn handled(&self) -> usize {
        self.handled.len()
    }
}

impl Attendance {
    fn enter(&mut self, line: &Line) {
        match line {
            Line::Quiet => self.is_quiet = true,
            Line::Hung(..) => self.hung += 1,
            Line::Subscribed(filters) => self.subscribed += filters,
            Line::Connected(session_present) => {
                self.connects += 1;
                self.sessions_lost += u64::from(!session_present);
                self.is_connected = true;
                if let Some(lost_at) = self.lost_at.take() {
                    self.longest_outage = self.longest_outage.max(lost_at.elapsed());
                }
            }
            Line::Lost(_) => {
                self.is_connected = false;
                self.lost_at.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITNESS: usize = 0;
    const SOURCE: usize = 3;

    fn event(n: u64) -> Event {
        Event { lane: 'a', n }
    }

    /// A book in which so many events were accepted.
    fn accepted(events: u64) -> Book {
        let mut book = Book::new();
        for n in 0..events {
            book.enter(SOURCE, Line::Attempt(event(n)));
            book.enter(SOURCE, Line::Accepted(event(n)));
        }
        book
    }

    fn witness(book: &Book) -> &Subscription {
        let mut all = book.subscriptions.iter();
        all.find(|one| one.service == "witness").expect("it has one")
    }

    fn lost(book: &Book) -> Vec<Event> {
        witness(book).lost().map(|(event, _)| *event).collect()
    }

    #[test]
    fn what_was_accepted_and_never_handled_is_lost() {
        let mut book = accepted(3);
        book.enter(WITNESS, Line::End(0, event(0)));
        book.enter(WITNESS, Line::End(0, event(2)));
        assert_eq!(lost(&book), [event(1)]);
        assert_eq!(witness(&book).left(), 1);
    }

    #[test]
    fn handled_before_the_publish_returned_is_handled() {
        let mut book = accepted(0);
        book.enter(WITNESS, Line::End(0, event(0)));
        book.enter(SOURCE, Line::Accepted(event(0)));
        assert_eq!(witness(&book).left(), 0);
    }

    #[test]
    fn twice_in_one_life_is_told_and_in_two_lives_is_not() {
        let mut book = accepted(1);
        book.enter(WITNESS, Line::End(0, event(0)));
        book.begin_life(WITNESS);
        book.enter(WITNESS, Line::End(0, event(0)));
        assert!(witness(&book).repeated.is_empty());
        assert_eq!(witness(&book).again, 1);
        book.enter(WITNESS, Line::End(0, event(0)));
        assert_eq!(witness(&book).repeated.len(), 1);
    }

    #[test]
    fn only_what_a_killed_broker_neither_delivered_nor_saved_is_its_own_loss() {
        let mut book = accepted(3);
        book.enter(WITNESS, Line::End(0, event(0)));
        book.broker_forgot(&HashSet::from([event(1)]));
        assert_eq!(witness(&book).forgotten, BTreeSet::from([event(2)]));
        assert_eq!(lost(&book), [event(1)]);
        // It had been delivered after all.
        book.enter(WITNESS, Line::End(0, event(2)));
        assert!(witness(&book).forgotten.is_empty());
    }

    #[test]
    fn a_run_that_did_not_end_with_its_life_was_cut_off() {
        let mut book = accepted(1);
        book.enter(WITNESS, Line::Begin(0, event(0)));
        book.begin_life(WITNESS);
        assert_eq!(witness(&book).cut_off, 1);
    }
}
