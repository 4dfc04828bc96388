//! The way to the broker, before a word of MQTT: its name, and its port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tars_mqtt::BrokerUrl;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::report::{Finding, Found};

/// Ports of MQTT, plain and with TLS: where one answers, the configured one may be wrong.
const USUAL_PORTS: [u16; 2] = [1883, 8883];
/// A neighbour of the port that was asked for answers at once, or does not matter.
const GLANCE: Duration = Duration::from_millis(500);

/// The addresses behind the host's name.
pub(super) async fn look_up(broker: &BrokerUrl, limit: Duration) -> Found<Vec<SocketAddr>> {
    let (host, port) = (broker.host.as_str(), broker.port);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok((vec![(address, port).into()], format!("{host} is an address already")));
    }
    let unknown = |why: String| {
        Finding::new(format!("the host name {host:?} is not known: {why}"))
            .check(format!("the spelling of {host:?} in MQTT_URL"))
            .check(format!(
                "`getent hosts {host}`, and the name servers in /etc/resolv.conf"
            ))
            .check("in a container: the broker is called as its service in the compose file, on the same network")
    };
    let found = timeout(limit, lookup_host((host, port))).await;
    let found = found.map_err(|_| unknown(format!("no name server answered within {limit:?}")))?;
    let mut addresses: Vec<_> = found.map_err(|error| unknown(error.to_string()))?.collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(unknown("it has no address".to_owned()));
    }
    let listed: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    Ok((addresses, format!("{host} is {}", listed.join(", "))))
}

/// Whether somebody listens at one of the addresses.
pub(super) async fn reach(broker: &BrokerUrl, addresses: &[SocketAddr], limit: Duration) -> Found<()> {
    let mut reasons = Vec::new();
    let mut last = io::ErrorKind::TimedOut;
    for address in addresses {
        match connect(*address, limit).await {
            Ok(()) => {
                let others = match reasons.is_empty() {
                    true => String::new(),
                    false => format!(" ({})", reasons.join("; ")),
                };
                return Ok(((), format!("{address} accepts{others}")));
            }
            Err(error) => {
                last = error.kind();
                reasons.push(format!("{address}: {error}"));
            }
        }
    }
    Err(unreachable(broker, addresses, &reasons.join("; "), last).await)
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<()> {
    let connected = timeout(limit, TcpStream::connect(address)).await;
    connected
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map(drop)
}

async fn unreachable(broker: &BrokerUrl, addresses: &[SocketAddr], reasons: &str, last: io::ErrorKind) -> Finding {
    let (host, port) = (&broker.host, broker.port);
    if last != io::ErrorKind::ConnectionRefused {
        return Finding::new(format!("no way leads to {host} port {port}: {reasons}"))
            .check("the host: is it up, is it the right one in MQTT_URL?")
            .check("firewalls, VPN and routes on the way: packets are dropped, not refused");
    }
    let finding = Finding::new(format!("nobody listens on port {port} of {host}: {reasons}"));
    let finding = match neighbour(addresses, port, &USUAL_PORTS).await {
        Some(open) => finding.check(format!("the port in MQTT_URL: port {open} of that host does answer")),
        None => finding.check(format!("the port in MQTT_URL: is {port} the broker's?")),
    };
    finding
        .check(format!(
            "is the broker running there? `systemctl status mosquitto`, `ss -ltn 'sport = {port}'`"
        ))
        .check("its `listener` lines: a Mosquitto without any listens on localhost only")
}

/// A usual port, other than this one, on which somebody listens.
async fn neighbour(addresses: &[SocketAddr], port: u16, usual: &[u16]) -> Option<u16> {
    for &other in usual.iter().filter(|other| **other != port) {
        for address in addresses {
            if connect(SocketAddr::new(address.ip(), other), GLANCE).await.is_ok() {
                return Some(other);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_neighbour_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = address.port();
        assert_eq!(neighbour(&[address], 1, &[open]).await, Some(open));
        assert_eq!(
            neighbour(&[address], open, &[open]).await,
            None,
            "it is the port itself"
        );
    }

    #[tokio::test]
    async fn addresses_need_no_name_server() {
        let broker: BrokerUrl = "mqtt://[::1]:1".parse().unwrap();
        let (addresses, _) = look_up(&broker, GLANCE).await.unwrap();
        assert_eq!(addresses, ["[::1]:1".parse().unwrap()]);
    }
}
