//! The proxy between two bare sockets.

use std::io::ErrorKind;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const WITHIN: Duration = Duration::from_secs(10);

/// Long enough that bytes that are let through would have come.
const QUIET: Duration = Duration::from_millis(100);

struct Bench {
    proxy: Proxy,
    server: TcpListener,
}

impl Bench {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let target = server.local_addr().expect("bound");
        let proxy = Proxy::start(target).await.expect("it starts");
        Self { proxy, server }
    }

    /// A client and the broker's end of its link.
    async fn link(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.expect("it listens");
        let accepted = timeout(WITHIN, self.server.accept()).await.expect("in time");
        (client, accepted.expect("a link").0)
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("written");
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    let read = timeout(WITHIN, stream.read_exact(&mut got)).await.expect("in time");
    read.expect("the link is up");
    assert!(got == bytes, "other bytes came");
}

async fn expect_nothing(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = timeout(QUIET, stream.peek(&mut byte)).await;
    assert!(read.is_err(), "awaited nothing, got {read:?}");
}

async fn expect_reset(stream: &mut TcpStream) {
    let read = timeout(WITHIN, stream.read_u8()).await.expect("in time");
    assert_eq!(read.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn passes_bytes_and_ends_both_ways() {
    let bench = Bench::new().await;
    assert_eq!(bench.proxy.url(), format!("mqtt://{}", bench.proxy.address()));
    let (mut client, mut broker) = bench.link().await;
    assert_eq!((bench.proxy.connections(), bench.proxy.accepted()), (1, 1));
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    tokio::join!(send(&mut client, &large), expect(&mut broker, &large));
    send(&mut broker, b"back").await;
    expect(&mut client, b"back").await;
    // Half an end leaves the other half open.
    client.shutdown().await.expect("shut");
    assert_eq!(broker.read(&mut [0]).await.expect("an end"), 0);
    send(&mut broker, b"more").await;
    expect(&mut client, b"more").await;
    drop(broker);
    assert_eq!(client.read(&mut [0]).await.expect("an end"), 0);
    bench.proxy.wait_for_connections(0).await;
    bench.proxy.stop().await;
}

#[tokio::test]
async fn a_cut_resets_both_ends_and_lets_the_next_in() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        let (mut client, mut broker) = bench.link().await;
        send(&mut client, b"x").await;
        expect(&mut broker, b"x").await;
        bench.proxy.cut();
        expect_reset(&mut client).await;
        expect_reset(&mut broker).await;
        bench.proxy.wait_for_connections(0).await;
    }
    assert_eq!(bench.proxy.accepted(), 3);
}

#[tokio::test]
async fn a_reset_of_one_end_resets_the_other() {
    let bench = Bench::new().await;
    let (mut client, broker) = bench.link().await;
    broker.set_zero_linger().expect("open");
    drop(broker);
    expect_reset(&mut client).await;
    // And where the broker does not listen at all.
    drop(bench.server);
    let mut client = TcpStream::connect(bench.proxy.address()).await.expect("it listens");
    expect_reset(&mut client).await;
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes() {
    let bench = Bench::new().await;
    for (direction, count) in [
        (Direction::ToBroker, 1),
        (Direction::ToClient, 10),
        (Direction::Both, 4),
    ] {
        let (mut client, mut broker) = bench.link().await;
        bench.proxy.cut_after(direction, count);
        let (from, to) = match direction {
            Direction::ToClient => (&mut broker, &mut client),
            _ => (&mut client, &mut broker),
        };
        send(from, b"0123456789abcdef").await;
        let mut got = Vec::new();
        let end = timeout(WITHIN, to.read_to_end(&mut got)).await.expect("in time");
        assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        assert_eq!(got, b"0123456789abcdef"[..count as usize]);
        bench.proxy.wait_for_connections(0).await;
    }
    // It happens once.
    let (mut client, mut broker) = bench.link().await;
    send(&mut client, b"0123456789abcdef").await;
    expect(&mut broker, b"0123456789abcdef").await;
}

#[tokio::test]
async fn held_bytes_come_later_and_swallowed_ones_never() {
    let bench = Bench::new().await;
    let (mut client, mut broker) = bench.link().await;
    bench.proxy.hold(Direction::ToBroker, true);
    send(&mut client, b"held").await;
    send(&mut broker, b"free").await;
    expect(&mut client, b"free").await;
    expect_nothing(&mut broker).await;
    bench.proxy.hold(Direction::ToBroker, false);
    expect(&mut broker, b"held").await;

    bench.proxy.black_hole(Direction::Both, true);
    send(&mut client, b"gone").await;
    send(&mut broker, b"gone").await;
    expect_nothing(&mut broker).await;
    expect_nothing(&mut client).await;
    bench.proxy.black_hole(Direction::Both, false);
    send(&mut client, b"here").await;
    expect(&mut broker, b"here").await;
}

#[tokio::test]
async fn a_hold_fills_the_senders_socket() {
    let bench = Bench::new().await;
    let (mut client, _broker) = bench.link().await;
    bench.proxy.hold(Direction::ToBroker, true);
    let mut taken = 0usize;
    let chunk = vec![0; 64 * 1024];
    while timeout(QUIET * 3, client.write_all(&chunk)).await.is_ok() {
        taken += chunk.len();
        assert!(taken < 64 * 1024 * 1024, "it takes everything in");
    }
}

#[tokio::test]
async fn a_delay_is_one_way_and_keeps_the_order() {
    let bench = Bench::new().await;
    let (mut client, mut broker) = bench.link().await;
    bench.proxy.delay(Direction::ToBroker, Duration::from_millis(200));
    let began = Instant::now();
    send(&mut client, b"1").await;
    send(&mut broker, b"now").await;
    expect(&mut client, b"now").await;
    assert!(
        began.elapsed() < Duration::from_millis(190),
        "the other way is delayed too"
    );
    expect_nothing(&mut broker).await;
    bench.proxy.delay(Direction::ToBroker, Duration::ZERO);
    send(&mut client, b"2").await;
    expect(&mut broker, b"12").await;
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_throttled_link_takes_its_time() {
    let bench = Bench::new().await;
    let (mut client, mut broker) = bench.link().await;
    bench.proxy.throttle(Direction::ToBroker, NonZeroU64::new(50_000));
    let began = Instant::now();
    send(&mut client, &[7; 10_000]).await;
    expect(&mut broker, &[7; 10_000]).await;
    assert!(began.elapsed() >= Duration::from_millis(170), "{:?}", began.elapsed());
    bench.proxy.throttle(Direction::ToBroker, None);
    tokio::join!(send(&mut client, &[7; 1_000_000]), expect(&mut broker, &[7; 1_000_000]));
}

#[tokio::test]
async fn refuses_and_listens_again_on_the_same_port() {
    let bench = Bench::new().await;
    let (mut client, mut broker) = bench.link().await;
    for _ in 0..3 {
        bench.proxy.refuse(true).await;
        let error = TcpStream::connect(bench.proxy.address()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // The link that was there stays.
        send(&mut client, b"x").await;
        expect(&mut broker, b"x").await;
        bench.proxy.refuse(false).await;
        let (mut client, mut broker) = bench.link().await;
        send(&mut client, b"y").await;
        expect(&mut broker, b"y").await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_it() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for stop in [true, false] {
        let bench = Bench::new().await;
        let (mut client, _broker) = bench.link().await;
        bench.proxy.hold(Direction::Both, true);
        send(&mut client, b"x").await;
        let address = bench.proxy.address();
        if stop {
            bench.proxy.stop().await;
            assert_eq!(tasks(), 0);
        } else {
            drop(bench.proxy);
        }
        let gone = timeout(WITHIN, client.read(&mut [0])).await.expect("in time");
        assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
        assert!(TcpStream::connect(address).await.is_err(), "it still listens");
    }
}

#[tokio::test]
async fn a_disturbance_is_taken_back() {
    let bench = Bench::new().await;
    let short = Duration::from_millis(10);
    let rate = NonZeroU64::new(100).expect("more than none");
    for disturbance in [
        Disturbance::Hold(Direction::Both),
        Disturbance::Delay(Direction::ToBroker, Duration::from_secs(60)),
        Disturbance::Throttle(Direction::ToClient, rate),
        Disturbance::CutAfter(Direction::ToBroker, 3),
    ] {
        let (mut client, mut broker) = bench.link().await;
        bench.proxy.disturb(disturbance, short).await;
        let began = Instant::now();
        send(&mut client, b"there").await;
        expect(&mut broker, b"there").await;
        send(&mut broker, &[b'x'; 1_000]).await;
        expect(&mut client, &[b'x'; 1_000]).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{disturbance:?}");
    }
    for disturbance in [
        Disturbance::Cut,
        Disturbance::BlackHole(Direction::ToClient),
        Disturbance::Refuse,
    ] {
        let (mut client, _broker) = bench.link().await;
        bench.proxy.disturb(disturbance, short).await;
        expect_reset(&mut client).await;
        let (mut client, mut broker) = bench.link().await;
        send(&mut client, b"anew").await;
        expect(&mut broker, b"anew").await;
    }
}

#[test]
fn a_seed_makes_the_same_weather_and_all_kinds_of_it() {
    let some = |seed| Weather::seeded(seed).take(200).collect::<Vec<_>>();
    assert_eq!(some(1), some(1));
    assert_ne!(some(1), some(2));
    let kinds: std::collections::HashSet<_> = some(1)
        .iter()
        .map(|(disturbance, _)| std::mem::discriminant(disturbance))
        .collect();
    assert_eq!(kinds.len(), 7);
}
