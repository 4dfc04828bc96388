//! The task of a proxy: it listens, or does not, and owns the links.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use super::{Shared, bind, link};

/// Clients that the kernel keeps until they are accepted.
pub(super) const BACKLOG: u32 = 128;

/// Between two tries to listen again, or to accept after a failure (too many open files).
const RETRY: Duration = Duration::from_millis(5);

/// Runs until the proxy is stopped. `_reserved` keeps the port while nobody listens.
pub(super) async fn run(shared: Arc<Shared>, address: SocketAddr, _reserved: TcpSocket, listener: TcpListener) {
    let mut faults = shared.faults.subscribe();
    let mut links = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        let (stopped, refuse) = {
            let now = faults.borrow_and_update();
            (now.stopped, now.refuse)
        };
        if stopped {
            break;
        }
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = bind(address).and_then(|socket| socket.listen(BACKLOG)).ok();
        }
        shared.seen.send_modify(|seen| seen.listening = listener.is_some());
        tokio::select! {
            biased;
            changed = faults.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            Some(_) = links.join_next() => {}
            accepted = accept(listener.as_ref()) => {
                if let Ok((client, _)) = accepted {
                    let counted = Counted::new(Arc::clone(&shared));
                    links.spawn(link::run(counted, client));
                }
            }
            () = tokio::time::sleep(RETRY), if listener.is_none() && !refuse => {}
        }
    }
    drop(listener);
    links.shutdown().await;
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => {
            let accepted = listener.accept().await;
            if accepted.is_err() {
                tokio::time::sleep(RETRY).await;
            }
            accepted
        }
        None => std::future::pending().await,
    }
}

/// A link in the count for as long as it lives, however it ends.
pub(super) struct Counted {
    pub(super) shared: Arc<Shared>,
}

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.seen.send_modify(|seen| {
            seen.links += 1;
            seen.accepted += 1;
        });
        Self { shared }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.seen.send_modify(|seen| seen.links -= 1);
    }
}
