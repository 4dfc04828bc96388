//! One link: a client's socket, the broker's, and a pump each way.
//!
//! A pump reads chunks into a bounded queue, stamped with the time at which they may
//! arrive, and writes them from there. So a delay does not slow the reader down, and a
//! hold fills the sender's socket in the end.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::accept::Counted;
use super::faults::{Faults, Flow, Way};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Chunks that wait in one direction.
const CHUNKS: usize = 16;

/// A throttled pump writes so much at once that it takes this long.
const TICK: Duration = Duration::from_millis(20);

type Chunk = (Instant, Vec<u8>);

pub(super) async fn run(counted: Counted, mut client: TcpStream) {
    let shared = &*counted.shared;
    let mut faults = shared.faults.subscribe();
    let cuts = faults.borrow_and_update().cuts;
    let connected = tokio::select! {
        () = cut(&mut faults, cuts) => None,
        connected = TcpStream::connect(shared.target) => connected.ok(),
    };
    let Some(mut broker) = connected else {
        // To the client it is as if the broker itself had dropped it.
        reset(client);
        return;
    };
    // Small packets must not wait for each other's TCP acknowledgement. Failing means
    // that the socket is gone, which reading tells.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_broker, mut to_broker) = broker.split();
    let both = async {
        tokio::try_join!(
            pump(shared, Way::ToBroker, &mut from_client, &mut to_broker),
            pump(shared, Way::ToClient, &mut from_broker, &mut to_client),
        )
    };
    let clean = tokio::select! {
        biased;
        () = cut(&mut faults, cuts) => false,
        ended = both => ended.is_ok(),
    };
    if !clean {
        reset(client);
        reset(broker);
    }
}

/// Resolves when links are cut that began at `cuts`.
async fn cut(faults: &mut watch::Receiver<Faults>, cuts: u64) {
    // Without a sender nobody is left to cut; the task that owns the link ends it.
    if faults.wait_for(|faults| faults.cuts != cuts).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Closes with RST instead of FIN.
fn reset(socket: TcpStream) {
    // Failing means that the socket is gone already.
    let _ = socket.set_zero_linger();
}

/// Passes bytes on until the reader's end, which it passes on too. An error means that
/// the link is broken.
async fn pump(
    shared: &Shared,
    way: Way,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let (sender, queue) = mpsc::channel(CHUNKS);
    tokio::try_join!(read(shared, way, reader, sender), write(shared, way, queue, writer))?;
    Ok(())
}

async fn read(
    shared: &Shared,
    way: Way,
    reader: &mut (impl AsyncRead + Unpin),
    queue: mpsc::Sender<Chunk>,
) -> io::Result<()> {
    let mut last = Instant::now();
    loop {
        let mut bytes = Vec::with_capacity(CHUNK);
        if reader.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let delay = shared.faults.borrow().flow(way).delay;
        // A delay that was shortened does not let bytes overtake.
        last = last.max(Instant::now() + delay);
        if queue.send((last, bytes)).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn write(
    shared: &Shared,
    way: Way,
    mut queue: mpsc::Receiver<Chunk>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut faults = shared.faults.subscribe();
    while let Some((due, bytes)) = queue.recv().await {
        sleep_until(due).await;
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let flow = released(&mut faults, way).await;
            if flow.black_hole {
                break;
            }
            let (now, later) = left.split_at(slice(&flow, left.len()));
            let mut passing = (0, false);
            // Counting is no change that anybody waits for.
            shared.faults.send_if_modified(|faults| {
                passing = faults.pass(way, now.len());
                false
            });
            writer.write_all(&now[..passing.0]).await?;
            if passing.1 {
                shared.faults.send_modify(Faults::cut);
                // The link's own wait for a cut takes it from here.
                return std::future::pending().await;
            }
            left = later;
            if let Some(rate) = flow.rate {
                sleep(Duration::from_secs_f64(now.len() as f64 / rate.get() as f64)).await;
            }
        }
    }
    // The end passes a hold no more than bytes do; a black hole swallows it.
    if released(&mut faults, way).await.black_hole {
        return std::future::pending().await;
    }
    writer.shutdown().await
}

/// The faults of this direction, once it is not held.
async fn released(faults: &mut watch::Receiver<Faults>, way: Way) -> Flow {
    let flow = faults.wait_for(|faults| !faults.flow(way).hold).await;
    // Without a sender the proxy is gone, and the link with it.
    flow.map(|faults| faults.flow(way).clone()).unwrap_or_default()
}

/// How many of `len` bytes to write at once.
fn slice(flow: &Flow, len: usize) -> usize {
    let Some(rate) = flow.rate else { return len };
    let tick = u128::from(rate.get()) * TICK.as_millis() / 1000;
    usize::try_from(tick).unwrap_or(usize::MAX).clamp(1, len)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn a_throttled_pump_writes_in_small_steps() {
        let mut flow = Flow::default();
        assert_eq!(slice(&flow, 1000), 1000);
        for (rate, expected) in [(1, 1), (10_000, 200), (1_000_000, 1000)] {
            flow.rate = NonZeroU64::new(rate);
            assert_eq!(slice(&flow, 1000), expected);
        }
    }
}
