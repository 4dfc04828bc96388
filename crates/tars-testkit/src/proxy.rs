//! A TCP proxy in front of a broker that fails on demand: it cuts, holds, swallows,
//! delays and throttles what passes, and refuses to listen.
//!
//! ```no_run
//! use tars_testkit::proxy::{Direction, Proxy};
//!
//! # async fn example(broker: std::net::SocketAddr) -> std::io::Result<()> {
//! let proxy = Proxy::start(broker).await?;
//! // … connect an adapter to proxy.address() …
//! proxy.black_hole(Direction::ToClient, true);
//! proxy.cut();
//! proxy.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! It knows bytes only, and uses no chance: what it does is what it was told, by hand or
//! by [`Weather`], which is made from a seed. It works on real sockets, hence not in
//! tokio's paused time.
//!
//! Invariants: a link holds at most 16 chunks of 16 KiB a direction, behind which the
//! sender's own socket fills; one task owns the listener and all links, and is joined by
//! [`Proxy::stop`] or aborted by dropping the proxy.

mod accept;
mod faults;
mod link;
mod weather;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::faults::Faults;
pub use self::weather::{Disturbance, Weather};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
    /// Both ways.
    Both,
}

/// What the handle and the tasks share.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    faults: watch::Sender<Faults>,
    /// Live links, and whether anybody listens.
    seen: watch::Sender<Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    links: usize,
    accepted: u64,
    listening: bool,
}

/// The proxy. See the [module](self).
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and passes everything on to `target`, which
    /// is connected to anew for each client.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        // Bound and never listening: it keeps the port while nobody listens on it.
        let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let listener = bind(address)?.listen(accept::BACKLOG)?;
        let shared = Arc::new(Shared {
            target,
            faults: watch::Sender::new(Faults::default()),
            seen: watch::Sender::new(Seen {
                listening: true,
                ..Seen::default()
            }),
        });
        let task = tokio::spawn(accept::run(Arc::clone(&shared), address, reserved, listener));
        Ok(Self { address, shared, task })
    }

    /// Where it listens; the same for its whole life.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `mqtt://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Resets every link, on both sides, with RST; what is on its way is lost. New
    /// links are accepted as before.
    pub fn cut(&self) {
        self.shared.faults.send_modify(Faults::cut);
    }

    /// Takes everything in that direction and forgets it, as a half-open connection
    /// does. A link that lost bytes so is of no use afterwards: bytes are missing.
    pub fn black_hole(&self, direction: Direction, on: bool) {
        self.flow(direction, |flow| flow.black_hole = on);
    }

    /// Stops passing on in that direction, and goes on later with every byte. Some
    /// hundred KiB are taken in meanwhile, then the sender's socket fills.
    pub fn hold(&self, direction: Direction, on: bool) {
        self.flow(direction, |flow| flow.hold = on);
    }

    /// Lets each byte read from now on arrive so much later. Zero, the default, turns
    /// it off; bytes never overtake each other.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.flow(direction, |flow| flow.delay = delay);
    }

    /// Passes at most so many bytes a second on each link. `None`, the default, turns
    /// it off.
    pub fn throttle(&self, direction: Direction, bytes_per_second: Option<NonZeroU64>) {
        self.flow(direction, |flow| flow.rate = bytes_per_second);
    }

    /// Passes `bytes` more in that direction, counted over all links, then does as
    /// [`cut`](Self::cut); the bytes before the cut arrive. With [`Direction::Both`]
    /// each direction has a count of its own. It happens once.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.flow(direction, |flow| flow.cut_after = Some(bytes));
    }

    /// Whether clients are refused, as by a host on which nobody listens. Links that
    /// are there stay. Resolves when it is so.
    pub async fn refuse(&self, on: bool) {
        self.shared.faults.send_modify(|faults| faults.refuse = on);
        let mut seen = self.shared.seen.subscribe();
        // The sender lives as long as `self`.
        let _ = seen.wait_for(|seen| seen.listening != on).await;
    }

    /// Links that are open at present.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.seen.borrow().links
    }

    /// Links that were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.seen.borrow().accepted
    }

    /// Resolves when exactly so many links are open.
    pub async fn wait_for_connections(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        // The sender lives as long as `self`.
        let _ = seen.wait_for(|seen| seen.links == count).await;
    }

    /// Ends it and all its links, and joins its tasks.
    pub async fn stop(mut self) {
        self.shared.faults.send_modify(|faults| faults.stopped = true);
        // A task that panicked is gone as well.
        let _ = (&mut self.task).await;
    }

    fn flow(&self, direction: Direction, change: impl Fn(&mut faults::Flow)) {
        self.shared.faults.send_modify(|faults| {
            if direction != Direction::ToClient {
                change(&mut faults.to_broker);
            }
            if direction != Direction::ToBroker {
                change(&mut faults.to_client);
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The task owns its links: they go with it.
        self.task.abort();
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // So that the reserving socket and the listening one can have the same port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
