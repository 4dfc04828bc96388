//! The outbox on a connection that does what the test says.

use std::time::Duration;

use async_trait::async_trait;
use tars_contracts::TopicFilter;
use tars_ports::{AckOutcome, AckToken, Activity, Connection, Publisher, QoS, Refused, Subscriber};

use super::*;

/// A connection that keeps what it takes over until it is told what becomes of it.
#[derive(Default)]
struct Wire {
    taken: Mutex<Vec<(String, Settler)>>,
    /// The numbers of all that it took over.
    numbers: Mutex<Vec<u64>>,
    /// It takes no more than this at one time, if not 0.
    room: usize,
    gone: bool,
    /// Happens once, while it takes a message over, which is confirmed before anybody asks.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Wire {
    fn payloads(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|(payload, _)| payload.clone()).collect()
    }

    /// What became of the one at this place.
    fn settle(&self, at: usize, result: Result<Settled, Error>) {
        let (_, settler) = self.taken.lock().unwrap().remove(at);
        settler.settle(result);
    }

    fn confirm(&self, at: usize) {
        self.settle(at, Ok(Settled::default()));
    }

    fn cut(&self) {
        let taken = std::mem::take(&mut *self.taken.lock().unwrap());
        for (_, settler) in taken {
            settler.settle(Err(Error::new(ErrorKind::ConnectionLost, "cut")));
        }
    }
}

#[async_trait]
impl Publisher for Wire {
    fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
            return Ok(Receipt::settled());
        }
        let mut taken = self.taken.lock().unwrap();
        if self.gone {
            return Err(TryPublishError::Failed(Error::new(ErrorKind::NotConnected, "gone")));
        }
        if self.room > 0 && taken.len() >= self.room {
            return Err(TryPublishError::Full(message));
        }
        self.numbers.lock().unwrap().push(message.key);
        let (settler, receipt) = Receipt::pair();
        taken.push((String::from_utf8(message.payload.to_vec()).unwrap(), settler));
        Ok(receipt)
    }

    async fn ready(&self, _: QoS) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Subscriber for Wire {
    async fn subscribe(&self, _: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error> {
        Ok(Vec::new())
    }

    async fn unsubscribe(&self, _: &[TopicFilter]) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Connection for Wire {
    fn ack(&self, _: AckToken, _: AckOutcome) {}

    fn activity(&self) -> Activity {
        Activity::default()
    }

    async fn disconnect(&self) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self) {}
}

fn outbox(max_messages: usize) -> Arc<Outbox> {
    Outbox::new(max_messages, 1000, 3, Arc::default())
}

fn opened(outbox: &Arc<Outbox>) -> Arc<Wire> {
    let wire = Arc::new(Wire::default());
    outbox.open(wire.clone());
    wire
}

fn message(payload: &str) -> Message {
    Message::new("t".parse().unwrap(), payload.to_owned()).with_qos(QoS::AtLeastOnce)
}

async fn append(outbox: &Arc<Outbox>, payload: &str) -> Receipt {
    let deadline = Instant::now() + Duration::from_secs(30);
    outbox.append(message(payload), deadline).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_unsettled_goes_again_in_order_and_before_newer_ones() {
    let outbox = outbox(10);
    let first = opened(&outbox);
    let mut receipts = Vec::new();
    for payload in ["0", "1", "2"] {
        receipts.push(append(&outbox, payload).await);
    }
    assert_eq!(first.payloads(), ["0", "1", "2"]);
    first.confirm(1);
    first.cut();
    outbox.shut();
    outbox.rewind(Vec::new());
    receipts.push(append(&outbox, "3").await);
    let second = opened(&outbox);
    assert_eq!(second.payloads(), ["0", "2", "3"]);
    assert_eq!(outbox.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn resumed_flows_are_not_sent_as_new_ones_and_count_in_the_window() {
    let outbox = outbox(10);
    let first = opened(&outbox);
    let zero = append(&outbox, "0").await;
    let _others = (
        append(&outbox, "1").await,
        append(&outbox, "2").await,
        append(&outbox, "3").await,
    );
    first.cut();
    let (settler, receipt) = Receipt::pair();
    outbox.rewind(vec![(0, receipt)]);
    let second = opened(&outbox);
    assert_eq!(second.payloads(), ["1", "2"]);
    settler.settle(Ok(Settled::default()));
    zero.await.unwrap();
    outbox.go_on();
    assert_eq!(second.payloads(), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_kept_and_the_session_told_when_it_opens() {
    let outbox = outbox(10);
    let wire = opened(&outbox);
    let mut receipts = Vec::new();
    for payload in ["0", "1", "2", "3", "4"] {
        receipts.push(append(&outbox, payload).await);
    }
    assert_eq!(wire.payloads(), ["0", "1", "2"]);
    outbox.changed().await; // The first deadline.
    wire.confirm(0);
    wire.confirm(0);
    outbox.changed().await;
    outbox.go_on();
    assert_eq!(wire.payloads(), ["2", "3", "4"]);
    // Nothing waits any more: the session need not know.
    wire.confirm(0);
    let told = tokio::time::timeout(Duration::from_secs(1), outbox.changed()).await;
    assert!(told.is_err());
    outbox.watch(true);
    wire.confirm(0);
    outbox.changed().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_full_connection_gives_back_is_the_next_again() {
    let outbox = outbox(10);
    let wire = Arc::new(Wire {
        room: 1,
        ..Wire::default()
    });
    outbox.open(wire.clone());
    let _receipts = (
        append(&outbox, "0").await,
        append(&outbox, "1").await,
        append(&outbox, "2").await,
    );
    assert_eq!(outbox.waits_for_room(), Some(QoS::AtLeastOnce));
    assert_eq!(wire.payloads(), ["0"]);
    for next in ["1", "2"] {
        wire.confirm(0);
        outbox.go_on();
        assert_eq!(wire.payloads(), [next]);
    }
    assert_eq!(outbox.waits_for_room(), None);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_refuses_because_it_has_ended_waits_for_the_next() {
    let outbox = outbox(10);
    outbox.open(Arc::new(Wire {
        gone: true,
        ..Wire::default()
    }));
    let receipt = append(&outbox, "0").await;
    let late = outbox
        .append(message("1"), Instant::now() + Duration::from_secs(1))
        .await
        .unwrap();
    outbox.expire(Instant::now() + Duration::from_secs(2));
    assert_eq!(late.await.unwrap_err().fate(), Some(Fate::NotSent));
    outbox.rewind(Vec::new());
    let wire = opened(&outbox);
    wire.confirm(0);
    receipt.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_former_connection_may_confirm_but_not_fail() {
    let outbox = outbox(10);
    let former = opened(&outbox);
    let (zero, one) = (append(&outbox, "0").await, append(&outbox, "1").await);
    outbox.shut();
    outbox.rewind(Vec::new());
    let wire = opened(&outbox);
    former.settle(1, Err(Error::new(ErrorKind::Timeout, "late")));
    former.confirm(0);
    zero.await.unwrap();
    assert_eq!(wire.payloads(), ["0", "1"]);
    // The window is that of the new one: two on their way, one to go.
    let _others = (append(&outbox, "2").await, append(&outbox, "3").await);
    assert_eq!(wire.payloads(), ["0", "1", "2"]);
    wire.confirm(1);
    one.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_it_waits_and_then_fails_unsent() {
    let outbox = outbox(1);
    let wire = opened(&outbox);
    let _first = append(&outbox, "0").await;
    let late = Instant::now() + Duration::from_secs(3);
    let error = outbox.append(message("1"), late).await.unwrap_err();
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Full, Some(Fate::NotSent)));
    wire.confirm(0);
    let _second = append(&outbox, "1").await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_says_whether_it_may_have_arrived() {
    let outbox = outbox(10);
    let waiting = append(&outbox, "0").await;
    outbox.expire(outbox.next_deadline().unwrap());
    assert_eq!(waiting.await.unwrap_err().fate(), Some(Fate::NotSent));
    let _wire = opened(&outbox);
    let tried = append(&outbox, "1").await;
    let later = outbox
        .append(message("2"), Instant::now() + Duration::from_secs(60))
        .await
        .unwrap();
    outbox.expire(outbox.next_deadline().unwrap());
    assert_eq!(tried.await.unwrap_err().fate(), Some(Fate::Unknown));
    assert_eq!(outbox.next_deadline(), Some(Instant::now() + Duration::from_secs(60)));
    assert_eq!(outbox.fail_all(ErrorKind::Closed, "over"), 1);
    assert_eq!(later.await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(outbox.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sooner_deadline_than_all_others_is_told() {
    let outbox = outbox(10);
    let _late = append(&outbox, "0").await;
    outbox.changed().await;
    let _later = append(&outbox, "1").await;
    let told = tokio::time::timeout(Duration::ZERO, outbox.changed()).await;
    assert!(told.is_err());
    let soon = Instant::now() + Duration::from_secs(1);
    let _soon = outbox.append(message("2"), soon).await.unwrap();
    outbox.changed().await;
    assert_eq!(outbox.next_deadline(), Some(soon));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_before_it_resolves_leaves_nothing_behind() {
    let outbox = outbox(1);
    let wire = opened(&outbox);
    let first = append(&outbox, "0").await;
    let later = Instant::now() + Duration::from_secs(60);
    let second = outbox.append(message("1"), later);
    assert!(tokio::time::timeout(Duration::from_secs(1), second).await.is_err());
    wire.confirm(0);
    first.await.unwrap();
    assert_eq!(outbox.len(), 0);
    let _third = append(&outbox, "2").await;
    assert_eq!(wire.payloads(), ["2"]);
}

#[tokio::test]
async fn many_threads_keep_the_order_of_the_numbers() {
    let outbox = Outbox::new(1000, 1 << 20, 1000, Arc::default());
    let wire = opened(&outbox);
    let receipts: Vec<Receipt> = std::thread::scope(|scope| {
        let append = |_| {
            let outbox = &outbox;
            scope.spawn(move || {
                let deadline = Instant::now() + Duration::from_secs(30);
                (0..100)
                    .map(|_| outbox.try_append(message("x"), deadline).unwrap())
                    .collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..8).map(append).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((wire.payloads().len(), receipts.len(), outbox.len()), (800, 800, 800));
    assert!(wire.numbers.lock().unwrap().is_sorted());
    (0..800).for_each(|_| wire.confirm(0));
    assert_eq!(outbox.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_last_handle_it_has_may_settle_when_it_is_dropped() {
    let outbox = outbox(10);
    let wire = opened(&outbox);
    let _receipts = (append(&outbox, "0").await, append(&outbox, "1").await);
    drop(wire);
    outbox.shut();
    assert_eq!(outbox.len(), 2);
    outbox.rewind(Vec::new());
    assert_eq!(opened(&outbox).payloads(), ["0", "1"]);
    let _wire = outbox.fail_all(ErrorKind::Closed, "over");
    assert_eq!(outbox.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_goes_on_when_there_is_room() {
    let outbox = outbox(10);
    let wire = opened(&outbox);
    outbox.hold_back(QoS::AtLeastOnce);
    let _receipt = append(&outbox, "0").await;
    assert!(wire.payloads().is_empty());
    outbox.go_on();
    assert_eq!(wire.payloads(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_former_connection_takes_over_at_its_end_is_followed_before_the_next_gets_anything() {
    let (outbox, former, next) = (outbox(10), Arc::new(Wire::default()), Arc::new(Wire::default()));
    let reconnect = {
        let (outbox, next) = (outbox.clone(), next.clone());
        move || {
            outbox.shut();
            outbox.rewind(Vec::new());
            outbox.open(next);
        }
    };
    *former.meanwhile.lock().unwrap() = Some(Box::new(reconnect));
    outbox.open(former);
    append(&outbox, "0").await.await.unwrap();
    let _receipt = append(&outbox, "1").await;
    assert_eq!(next.payloads(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_panics_costs_the_one_message_and_no_room_in_the_window() {
    let (outbox, wire) = (outbox(10), Arc::new(Wire::default()));
    outbox.open(wire.clone());
    for _ in 0..5 {
        *wire.meanwhile.lock().unwrap() = Some(Box::new(|| panic!("as the test wants it")));
        let deadline = Instant::now() + Duration::from_secs(30);
        let append = std::panic::AssertUnwindSafe(|| outbox.try_append(message("lost"), deadline));
        assert!(std::panic::catch_unwind(append).is_err());
    }
    let _receipts = (
        append(&outbox, "0").await,
        append(&outbox, "1").await,
        append(&outbox, "2").await,
    );
    assert_eq!(wire.payloads(), ["0", "1", "2"]);
    outbox.changed().await;
}
