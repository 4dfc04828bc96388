//! The socket to the broker, which is ours; paho gets a loopback connection to here.
//!
//! It exists for one defect of the C library (paho.mqtt.c issues 1621 and 1622, open in
//! 1.3.16): when a QoS 1 or 2 PUBLISH meets a socket error, its payload is freed
//! twice, and the process aborts. A broker that is killed under load is enough. So
//! **paho must never see a write fail**: whatever becomes of the broker, the relay reads
//! on until paho closes, and an end reaches paho as an end of what it reads.
//!
//! TLS and WebSocket lie in that socket ([`tars_net`]); paho knows nothing of them.
//!
//! Nor may paho see what breaks the protocol: the broker's bytes go through a
//! [`Screen`], and at a breach the line ends. It accepts one connection; but it gives its
//! port back only when paho has done with connecting ([`Dialling`]). Otherwise an attempt
//! that ran out of time could reach the next relay that gets the port, in place of its own.

use std::convert::Infallible;
use std::io;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tars_net::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::screen::{Breach, Screen};
use crate::shared::{Shared, Verdict};

/// After its last byte the broker gets so long to close.
const LINGER: Duration = Duration::from_millis(500);
/// Where no runtime is left, a thread reads on for so long.
const LAST_READ: Duration = Duration::from_secs(10);

/// The line between paho and the broker. Dropping it closes the broker's socket at
/// once; towards paho the relay then ends by itself, when paho has closed.
pub(crate) struct Line {
    stop: Option<oneshot::Sender<()>>,
    flushed: oneshot::Receiver<()>,
    broken: Broken,
    task: JoinHandle<()>,
}

/// Paho may still connect, as long as this is kept.
pub(crate) struct Dialling {
    _until: oneshot::Sender<Infallible>,
}

/// Why nothing more can be read from the broker, where it is more than an end.
type Broken = Arc<Mutex<Option<io::Error>>>;

/// Where paho connects to, for as long as it is dialling, and the line. Packets of the
/// broker's above `limit` end it.
pub(crate) async fn open(
    broker: Stream,
    shared: Arc<Shared>,
    limit: usize,
) -> io::Result<(SocketAddr, Dialling, Line)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (stop, mut stopped) = oneshot::channel();
    let (done, flushed) = oneshot::channel();
    let (until, connected) = oneshot::channel();
    let broken = Broken::default();
    let passage = Passage {
        broker,
        broken: Arc::clone(&broken),
        screen: Screen::new(limit),
    };
    let line = Line {
        stop: Some(stop),
        flushed,
        broken,
        task: tokio::spawn(async move {
            let port = Port { listener, connected };
            tokio::select! {
                accepted = port.listener.accept() => match accepted {
                    Ok((paho, _)) => drop(tokio::join!(run(paho, passage, shared, stopped, done), port.refuse())),
                    Err(_) => port.refuse().await,
                },
                _ = &mut stopped => {
                    drop(passage);
                    port.refuse().await;
                }
            }
        }),
    };
    Ok((address, Dialling { _until: until }, line))
}

impl Line {
    /// Resolves when paho has closed, and says whether all that it wrote was passed on.
    /// To be awaited once.
    pub(crate) async fn flushed(&mut self) -> bool {
        (&mut self.flushed).await.is_ok()
    }

    /// What the socket to the broker said when it broke, once.
    pub(crate) fn broken(&self) -> Option<io::Error> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sees the relay end. What paho wrote last gets `patience` to leave.
    pub(crate) async fn close(mut self, patience: Duration) {
        if timeout(patience, &mut self.task).await.is_err() {
            self.cut();
            // Paho may be slow to close; the relay ends when it has.
            let _ = timeout(patience, &mut self.task).await;
        }
    }

    fn cut(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A relay that has ended needs no telling.
            let _ = stop.send(());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
    }
}

/// What paho dials.
struct Port {
    listener: TcpListener,
    connected: oneshot::Receiver<Infallible>,
}

impl Port {
    /// Whoever still comes is let go, until paho has done with connecting.
    async fn refuse(mut self) {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(_) => {}
                    Err(_) => break,
                },
                _ = &mut self.connected => return,
            }
        }
        let _ = self.connected.await;
    }
}

/// The broker's side of the line.
struct Passage {
    broker: Stream,
    broken: Broken,
    screen: Screen,
}

async fn run(
    paho: TcpStream,
    passage: Passage,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
    done: oneshot::Sender<()>,
) {
    // Otherwise the second of two small packets waits for a delayed ACK: 40 ms.
    if let Err(cause) = paho.set_nodelay(true) {
        tracing::debug!(%cause, "a loopback connection refuses TCP_NODELAY");
    }
    let mut paho = Inner(Some(paho));
    let Some(stream) = &mut paho.0 else { return };
    let Passage {
        mut broker,
        broken,
        screen,
    } = passage;
    let closed = tokio::select! {
        passed = pass(stream, &mut broker, &broken, screen) => match passed {
            Ok(flushed) => Some(flushed),
            Err(breach) => {
                // Before paho sees an end: the first verdict counts.
                shared.judge(Verdict::Breach(breach));
                None
            }
        },
        _ = &mut stopped => None,
    };
    if let Some(flushed) = closed {
        paho.0 = None;
        if flushed && broker.shutdown().await.is_ok() {
            // Whether anybody awaits it does not matter.
            let _ = done.send(());
            // Closing a socket with unread bytes resets it, and the reset may overtake our last packets.
            tokio::select! {
                _ = timeout(LINGER, drain(&mut broker)) => {}
                _ = &mut stopped => {}
            }
        }
    } else {
        drop(broker);
        let _ = stream.shutdown().await;
        drain(stream).await;
        paho.0 = None;
    }
}

/// Passes bytes both ways until paho closes, or the broker breaks the protocol.
async fn pass(paho: &mut TcpStream, broker: &mut Stream, broken: &Broken, screen: Screen) -> Result<bool, Breach> {
    let (mut from_paho, mut to_paho) = paho.split();
    let (mut from_broker, mut to_broker) = tokio::io::split(broker);
    let screen = Mutex::new(screen);
    // It does not panic, and is never held while anything waits.
    let screen = || screen.lock().unwrap_or_else(PoisonError::into_inner);
    let out = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut passed = true;
        loop {
            match from_paho.read(&mut buffer).await {
                Ok(0) | Err(_) => return passed,
                Ok(n) => {
                    // Before the broker can answer.
                    screen().sent(&buffer[..n]);
                    // After a failure it only reads.
                    passed =
                        passed && to_broker.write_all(&buffer[..n]).await.is_ok() && to_broker.flush().await.is_ok();
                }
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut admitted = Vec::new();
        loop {
            let n = match from_broker.read(&mut buffer).await {
                Ok(0) => break,
                Ok(n) => n,
                Err(cause) => {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
                    break;
                }
            };
            admitted.clear();
            let judged = screen().admit(&buffer[..n], &mut admitted);
            if to_paho.write_all(&admitted).await.is_err() {
                break;
            }
            if let Err(breach) = judged {
                return breach;
            }
        }
        // Paho is told, closes, and with that ends the other direction.
        let _ = to_paho.shutdown().await;
        std::future::pending().await
    };
    tokio::select! {
        passed = out => Ok(passed),
        breach = back => Err(breach),
    }
}

async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut sink = [0; 4096];
    while let Ok(1..) = stream.read(&mut sink).await {}
}

/// Paho's end, while paho may write to it.
struct Inner(Option<TcpStream>);

impl Drop for Inner {
    /// The runtime ends. Paho may still write, and must not fail.
    fn drop(&mut self) {
        let Some(Ok(mut stream)) = self.0.take().map(TcpStream::into_std) else {
            return;
        };
        let read_on = move || {
            let prepared = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(LAST_READ)))
                .and_then(|()| stream.shutdown(Shutdown::Write));
            let mut sink = [0; 4096];
            while prepared.is_ok() && matches!(stream.read(&mut sink), Ok(1..)) {}
        };
        // Without a thread there is nothing more to be done.
        let _ = std::thread::Builder::new().name("paho-relay".into()).spawn(read_on);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The broker's end, and a line that paho has not dialled yet.
    async fn opened() -> (TcpStream, SocketAddr, Dialling, Line) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let to_broker = TcpStream::connect(listener.local_addr().expect("bound")).await;
        let (broker, _) = listener.accept().await.expect("accepted");
        let shared = Arc::new(Shared::new("mqtt://h:1".into()));
        let opened = open(to_broker.expect("connected").into(), shared, 1_000).await;
        let (address, dialling, line) = opened.expect("opened");
        (broker, address, dialling, line)
    }

    async fn line() -> (TcpStream, TcpStream, Line) {
        let (mut broker, address, _, line) = opened().await;
        let mut paho = TcpStream::connect(address).await.expect("connected");
        let (connack, pingreq) = ([0x20, 2, 0, 0], [0xc0, 0]);
        let mut buffer = [0; 4];
        paho.write_all(&pingreq).await.expect("written");
        broker.write_all(&connack).await.expect("written");
        broker.read_exact(&mut buffer[..2]).await.expect("read");
        paho.read_exact(&mut buffer).await.expect("read");
        assert_eq!(buffer, connack);
        (paho, broker, line)
    }

    #[tokio::test]
    async fn a_port_is_kept_until_paho_has_done_with_dialling() {
        let (_broker, address, dialling, mut line) = opened().await;
        line.cut();
        // Nobody else gets the port, and who comes late is let go.
        let mut late = TcpStream::connect(address).await.expect("connected");
        assert!(matches!(late.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        assert!(TcpListener::bind(address).await.is_err());
        drop(dialling);
        (&mut line.task).await.expect("it ends");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_too() {
        let (mut paho, mut broker, mut line) = line().await;
        paho.write_all(b"last").await.expect("written");
        drop(paho);
        assert!(line.flushed().await);
        let mut rest = Vec::new();
        broker.read_to_end(&mut rest).await.expect("no reset");
        assert_eq!(rest, b"last");
        drop(broker);
        line.close(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn paho_can_write_whatever_becomes_of_the_broker() {
        for cut in [true, false] {
            let (mut paho, broker, mut line) = line().await;
            if cut {
                line.cut();
                drop(broker);
            } else {
                broker.set_zero_linger().expect("set");
                drop(broker);
            }
            for _ in 0..1_000 {
                paho.write_all(&[0; 10_000]).await.expect("written");
            }
            assert_eq!(paho.read(&mut [0; 1]).await.expect("an end, and no reset"), 0);
            drop(paho);
            assert!(!line.flushed().await);
            line.close(Duration::from_secs(1)).await;
        }
    }

    #[test]
    fn paho_can_write_when_the_runtime_is_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (mut paho, _broker, _line) = runtime.block_on(async {
            let (paho, broker, line) = line().await;
            (paho.into_std().expect("of the standard library"), broker, line)
        });
        drop(runtime);
        paho.set_nonblocking(false).expect("blocking");
        for _ in 0..1_000 {
            io::Write::write_all(&mut paho, &[0; 10_000]).expect("written");
        }
    }
}
