//! A broker behind a socket, as the behaviours need it: a proxy makes its links fail,
//! and a script plays what it cannot be asked for.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use tars_ports::{ConnectOptions, TlsFiles, Transport};
use tokio::net::TcpSocket;
use tokio::sync::Mutex;

use super::script::Script;
use super::{Facilities, Link, Scene, Staged, TestBroker};
use crate::conformance::{Failure, OrFail};
use crate::mosquitto::Mosquitto;
use crate::proxy::{Direction, Proxy};

/// A broker that listens on a TCP port and can be stopped and started.
#[async_trait]
pub trait TcpServer: Send {
    /// Where it listens; the same for its whole life.
    fn address(&self) -> SocketAddr;

    /// Whether a stop keeps sessions.
    fn keeps_sessions(&self) -> bool;

    /// [`Facilities::resumes_at_once`].
    fn resumes_at_once(&self) -> bool;

    /// Ends it at once, or in good order.
    ///
    /// # Errors
    /// When it does not end.
    async fn end(&mut self, at_once: bool) -> Result<(), Failure>;

    /// Starts it at the same address.
    ///
    /// # Errors
    /// When it does not start.
    async fn start_again(&mut self) -> Result<(), Failure>;

    /// Another one of its kind that lets only this user in. `None` where it knows no
    /// passwords.
    async fn with_password(&self, user: &str, password: &str) -> Option<Result<Box<dyn TcpServer>, Failure>>;

    /// Whether [`with_password`](Self::with_password) gives one.
    fn knows_passwords(&self) -> bool;

    /// Whether one of its kind can be reached by other transports. Default: no.
    fn knows_transports(&self) -> bool {
        false
    }
}

/// A [`TcpServer`] with what the suite needs around it.
pub struct TcpTestBroker {
    server: Mutex<Box<dyn TcpServer>>,
    /// Without name and client id.
    way: ConnectOptions,
    facilities: Facilities,
    _holds: Option<Box<dyn Any + Send + Sync>>,
}

impl TcpTestBroker {
    /// Around this server.
    #[must_use]
    pub fn new(server: impl TcpServer + 'static) -> Self {
        let facilities = Facilities {
            sockets: true,
            passwords: server.knows_passwords(),
            one_way: true,
            keeps_sessions: server.keeps_sessions(),
            resumes_at_once: server.resumes_at_once(),
            transports: server.knows_transports(),
        };
        Self {
            way: options(server.address(), ""),
            server: Mutex::new(Box::new(server)),
            facilities,
            _holds: None,
        }
    }

    /// Reaches it at another of its ports, by another transport; `holds` is kept.
    #[must_use]
    pub fn reached_by(mut self, port: u16, transport: Transport, tls: TlsFiles, holds: impl Any + Send + Sync) -> Self {
        self.way.port = port;
        self.way.transport = transport;
        self.way.tls = tls;
        self._holds = Some(Box::new(holds));
        self
    }
}

fn options(address: SocketAddr, client_id: &str) -> ConnectOptions {
    ConnectOptions::new(address.ip().to_string(), address.port(), client_id)
}

#[async_trait]
impl TestBroker for TcpTestBroker {
    fn facilities(&self) -> Facilities {
        self.facilities
    }

    fn options(&self, client_id: &str) -> ConnectOptions {
        let mut options = self.way.clone();
        options.client_id = client_id.to_owned();
        options
    }

    async fn link(&self, client_id: &str) -> Result<Box<dyn Link>, Failure> {
        let mut options = self.options(client_id);
        let broker = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
        let proxy = Proxy::start(broker).await.or_fail("the proxy does not start")?;
        options.port = proxy.address().port();
        Ok(Box::new(TcpLink { proxy, options }))
    }

    async fn stage(&self, client_id: &str, scene: Scene) -> Result<Staged, Failure> {
        match scene {
            Scene::Absent => {
                // Bound, so that nobody else gets the port, and not listening.
                let socket = TcpSocket::new_v4().and_then(|socket| {
                    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                    Ok((socket.local_addr()?, socket))
                });
                let (address, socket) = socket.or_fail("no port is free")?;
                Ok(Staged::new(options(address, client_id), socket))
            }
            Scene::Password { user, password } => {
                let server = self.server.lock().await.with_password(&user, &password).await;
                let server = server.ok_or_else(|| Failure::new("the broker knows no passwords"))??;
                // Kept behind a lock, because a server need not be shared.
                Ok(Staged::new(options(server.address(), client_id), Mutex::new(server)))
            }
            #[cfg(feature = "tls")]
            Scene::Transport(security) => super::transport::stage(security, client_id).await,
            scene => {
                let script = Script::start(scene).await;
                Ok(Staged::new(options(script.address(), client_id), script))
            }
        }
    }

    async fn kill(&self) -> Result<(), Failure> {
        self.server.lock().await.end(true).await
    }

    async fn stop(&self) -> Result<(), Failure> {
        self.server.lock().await.end(false).await
    }

    async fn start_again(&self) -> Result<(), Failure> {
        self.server.lock().await.start_again().await
    }
}

struct TcpLink {
    proxy: Proxy,
    options: ConnectOptions,
}

impl Link for TcpLink {
    fn options(&self) -> ConnectOptions {
        self.options.clone()
    }

    fn cut(&self) {
        self.proxy.cut();
    }

    fn cut_after(&self, direction: Direction, bytes: u64) {
        self.proxy.cut_after(direction, bytes);
    }

    fn hold(&self, direction: Direction, on: bool) {
        self.proxy.hold(direction, on);
    }
}

#[async_trait]
impl TcpServer for Mosquitto {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    fn keeps_sessions(&self) -> bool {
        true
    }

    fn resumes_at_once(&self) -> bool {
        true
    }

    async fn end(&mut self, at_once: bool) -> Result<(), Failure> {
        match at_once {
            true => self.kill().await.or_fail("Mosquitto does not die"),
            false => self.stop().await.or_fail("Mosquitto does not stop"),
        }
    }

    async fn start_again(&mut self) -> Result<(), Failure> {
        Mosquitto::start_again(self)
            .await
            .or_fail("Mosquitto does not start again")
    }

    async fn with_password(&self, user: &str, password: &str) -> Option<Result<Box<dyn TcpServer>, Failure>> {
        let broker = Mosquitto::builder().password(user, password).start().await;
        Some(match broker {
            Ok(broker) => Ok(Box::new(broker)),
            Err(error) => Err(error).or_fail("Mosquitto with a password does not start"),
        })
    }

    fn knows_passwords(&self) -> bool {
        true
    }

    fn knows_transports(&self) -> bool {
        cfg!(feature = "tls")
    }
}

#[cfg(feature = "embedded")]
#[async_trait]
impl TcpServer for crate::embedded::EmbeddedBroker {
    fn address(&self) -> SocketAddr {
        Self::address(self)
    }

    fn keeps_sessions(&self) -> bool {
        false
    }

    /// While mqtt5 0.49 waits for the last connection to be buried it reads the new one
    /// already: a PUBREL that comes then is answered with PUBCOMP, and its message lost.
    fn resumes_at_once(&self) -> bool {
        false
    }

    async fn end(&mut self, _at_once: bool) -> Result<(), Failure> {
        self.stop().await.or_fail("the embedded broker does not stop")
    }

    async fn start_again(&mut self) -> Result<(), Failure> {
        Self::start_again(self)
            .await
            .or_fail("the embedded broker does not start again")
    }

    async fn with_password(&self, _user: &str, _password: &str) -> Option<Result<Box<dyn TcpServer>, Failure>> {
        None
    }

    fn knows_passwords(&self) -> bool {
        false
    }
}
