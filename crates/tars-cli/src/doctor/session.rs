//! The steps that speak MQTT: CONNECT, subscribe, publish and back, a large message.

use std::time::Duration;

use tars_mqtt::{Bytes, Client, Config, Error, ErrorKind, InboundMessage, QoS, Refusal, State};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::report::{Finding, Found, Step};
use super::tls;
use crate::args::DoctorArgs;
use crate::exit::{Failure, in_full};

/// The doctor's own client, and its topic.
pub(super) struct Doctor {
    pub(super) client: Client,
    topic: String,
    patience: Duration,
    as_service: bool,
}

/// What comes back on the topic.
pub(super) type Echoes = mpsc::Receiver<Bytes>;

impl Doctor {
    pub(super) fn new(config: Config, args: &DoctorArgs) -> Result<Self, Failure> {
        let topic = args.topic.clone();
        let topic = topic.unwrap_or_else(|| format!("tars/doctor/{}", config.client_id.replace(['/', '+', '#'], "_")));
        Ok(Self {
            client: Client::new(config)?,
            topic,
            patience: args.echo_timeout,
            as_service: args.as_service,
        })
    }

    fn config(&self) -> &Config {
        self.client.config()
    }

    pub(super) async fn end(&self) {
        self.client.shutdown().await;
    }

    /// CONNECT, and the broker's answer.
    pub(super) async fn connect(&self) -> Found<()> {
        match self.client.connect().await {
            Ok(()) => Ok(((), format!("accepted as {:?}", self.config().client_id))),
            Err(error) => Err(self.not_accepted(&error)),
        }
    }

    fn not_accepted(&self, error: &Error) -> Finding {
        let finding = Finding::new(in_full(error));
        let config = self.config();
        match error.kind() {
            ErrorKind::Refused(Refusal::BadCredentials | Refusal::NotAuthorized) => match &config.credentials {
                None => Finding::new("the broker wants a user and a password, and none is set")
                    .check("MQTT_USERNAME with MQTT_PASSWORD or MQTT_PASSWORD_FILE, or both in MQTT_URL"),
                Some(credentials) => {
                    let what = format!(
                        "the broker does not accept user {:?} with this password",
                        credentials.username
                    );
                    Finding::new(format!("{what}: {}", in_full(error)))
                        .check(
                            "the password: MQTT_PASSWORD and MQTT_PASSWORD_FILE override that of MQTT_URL; in the \
                                URL, `@ : / ? # %` are written percent-encoded",
                        )
                        .check("the user at the broker: `mosquitto_passwd`, and a reload after a change")
                }
            },
            ErrorKind::Refused(Refusal::ClientId) => finding
                .check(format!(
                    "whether the broker allows the client id {:?}",
                    config.client_id
                ))
                .check("`clientid_prefixes` and the like at the broker; --as-service asks with the service's own id"),
            ErrorKind::Refused(Refusal::Unavailable) => finding.check("the broker's log: it says it cannot serve now"),
            ErrorKind::Refused(Refusal::ProtocolVersion) => finding.check("the broker speaks no MQTT 3.1.1"),
            // A broker refuses a client's certificate only after the handshake.
            ErrorKind::Tls(_) => tls::finding(error, config),
            ErrorKind::Timeout => finding
                .check("the port: something accepts and does not answer as a broker")
                .check("the broker: is it overloaded, or stopped in a debugger?"),
            ErrorKind::Protocol | ErrorKind::ConnectionLost => finding
                .check(format!(
                    "the port {}: what listens there is no MQTT broker, or speaks TLS (mqtts://) or WebSocket (ws://)",
                    config.broker.port
                ))
                .check("the broker's log: it may have closed the connection on purpose"),
            _ => finding,
        }
    }

    /// SUBSCRIBE to the scratch topic.
    pub(super) async fn subscribe(&self) -> Found<Echoes> {
        // The doctor sends one at a time; what does not fit is somebody else's.
        let (sender, echoes) = mpsc::channel(16);
        let keep = move |message: InboundMessage| {
            let _ = sender.try_send(message.payload);
            std::future::ready(())
        };
        let subscribed = self.client.subscribe(&self.topic, keep).qos(QoS::AtLeastOnce).await;
        match subscribed {
            Ok(subscription) => Ok((
                echoes,
                format!("{} granted at QoS {}", self.topic, subscription.granted() as u8),
            )),
            Err(error) if error.kind() == ErrorKind::SubscriptionRefused => {
                let what = format!("the broker refused the subscription to {}: its ACL", self.topic);
                Err(Finding::new(what)
                    .check(self.acl("read"))
                    .check("--topic names another topic, one that the service may use"))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn acl(&self, access: &str) -> String {
        let user = self.config().credentials.as_ref();
        let user = user.map_or_else(
            || "anonymous clients".to_owned(),
            |login| format!("user {:?}", login.username),
        );
        format!("whether the ACL lets {user} {access} {}", self.topic)
    }

    /// A small message there and back.
    pub(super) async fn echo(&self, echoes: &mut Echoes) -> Found<()> {
        let payload = Bytes::from(format!("doctor {}", self.config().client_id));
        if let Err(error) = self.publish(payload.clone()).await {
            return Err(self.lost(&error));
        }
        match self.comes_back(&payload, echoes).await {
            true => Ok(((), format!("{} bytes by {}", payload.len(), self.topic))),
            // A connection that was taken over delivers nothing either.
            false if self.is_lost() => Err(self.lost_at(&in_words(ErrorKind::ConnectionLost))),
            false => {
                let what = format!(
                    "the broker confirmed the message and did not deliver it back within {:?}: its ACL drops it, \
                     which MQTT 3.1.1 cannot say",
                    self.patience
                );
                Err(Finding::new(what)
                    .check(self.acl("write to, and read,"))
                    .check("the broker's log: Mosquitto writes `Denied PUBLISH` with `log_type all`")
                    .check("--topic names another topic, one that the service may use"))
            }
        }
    }

    /// A message of this size there and back.
    pub(super) async fn payload(&self, size: usize, echoes: &mut Echoes) -> Found<()> {
        let payload = Bytes::from(vec![b'x'; size]);
        let own_limit = self.config().max_packet_size;
        match self.publish(payload.clone()).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                let what = format!("{size} bytes do not fit into this client's own limit of {own_limit} bytes");
                return Err(Finding::new(what).check("MQTT_MAX_PACKET_SIZE"));
            }
            Err(_) if self.is_lost() => return Err(self.too_large_for_the_broker(size)),
            Err(error) => return Err(self.lost(&error)),
        }
        match self.comes_back(&payload, echoes).await {
            true => Ok(((), format!("{size} bytes by {}", self.topic))),
            false if self.is_lost() => Err(self.too_large_for_the_broker(size)),
            false => {
                let what = format!(
                    "the broker confirmed {size} bytes and did not deliver them back within {:?}, as it did a small \
                     message: it drops what is above its limit",
                    self.patience
                );
                Err(Finding::new(what)
                    .check("`message_size_limit` in mosquitto.conf, or the like of another broker")
                    .check("--echo-timeout, if the link is slow"))
            }
        }
    }

    fn too_large_for_the_broker(&self, size: usize) -> Finding {
        if self.as_service {
            return self.lost_at("the connection ended");
        }
        let what = format!("the broker closed the connection on a message of {size} bytes: its packet limit");
        Finding::new(what)
            .check("`max_packet_size` in mosquitto.conf, or the like of another broker")
            .check("what stands between: a proxy or load balancer may have a limit of its own")
    }

    async fn publish(&self, payload: Bytes) -> Result<(), Error> {
        let publish = self.client.publish(self.topic.as_str(), payload).qos(QoS::AtLeastOnce);
        publish.timeout(self.patience.max(Duration::from_secs(10))).await
    }

    async fn comes_back(&self, payload: &Bytes, echoes: &mut Echoes) -> bool {
        let deadline = Instant::now() + self.patience;
        let mut state = self.client.state();
        let back = async {
            while let Some(echo) = echoes.recv().await {
                if echo == *payload {
                    return true;
                }
            }
            false
        };
        let back = async {
            tokio::select! {
                back = back => back,
                _ = state.until(State::Disconnected) => false,
            }
        };
        timeout_at(deadline, back).await.unwrap_or(false)
    }

    /// Whether the connection ended meanwhile.
    pub(super) fn is_lost(&self) -> bool {
        !self.client.is_connected()
    }

    fn lost(&self, error: &Error) -> Finding {
        if self.is_lost() {
            return self.lost_at(&in_full(error));
        }
        Finding::new(in_full(error)).check("the broker's log at this moment")
    }

    /// The broker ended the connection in the middle of a step.
    pub(super) fn lost_at(&self, why: &str) -> Finding {
        let id = &self.config().client_id;
        if self.as_service {
            return Finding::new(format!(
                "another client connects with the id {id:?}, and the broker threw this one out ({why})"
            ))
            .check("whether the service runs twice: containers, units, a developer's machine")
            .check("MQTT_CLIENT_ID of each service: no two may have the same")
            .check("the broker's log: Mosquitto writes `already connected, closing old connection` with both addresses")
            .of(Step::ClientId);
        }
        Finding::new(format!("the broker closed the connection: {why}"))
            .check("the broker's log at this moment")
            .check(format!(
                "its ACL for {}: some brokers close the connection instead of refusing",
                self.topic
            ))
    }
}

fn in_words(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::ConnectionLost => "the connection ended".to_owned(),
        other => format!("{other:?}"),
    }
}
