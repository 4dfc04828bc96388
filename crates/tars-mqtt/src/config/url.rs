//! The broker's URL: `mqtt://[user[:pass]@]host[:port]` and its three relatives.
//!
//! Written out by hand, because a general URL parser forgives what is an error here (a query, a
//! path) and knows neither the schemes nor their ports.
//!
//! Invariant: a reason for refusing a URL quotes nothing of it, and [`redacted`] shows it without
//! its password, be it ever so malformed.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use tars_ports::{Credentials, Error, ErrorKind, Transport};

use super::settings::{is_mqtt_text, is_password};

/// The rule, as every refusal shows it.
pub(super) const EXPECTED: &str = "mqtt://[user[:pass]@]host[:port] (or mqtts://, ws:// or wss://)";

/// Where the path of a WebSocket URL is left out.
const DEFAULT_PATH: &str = "/mqtt";

/// Longest name of the DNS, in text.
const LONGEST_HOST: usize = 253;

/// Where the broker is. `Display` writes it as a URL, with the port and never with credentials.
///
/// ```
/// use tars_mqtt::BrokerUrl;
///
/// let url: BrokerUrl = "mqtts://broker.example".parse()?;
/// assert_eq!(url.port, 8883);
/// assert_eq!(url.to_string(), "mqtts://broker.example:8883");
/// # Ok::<(), tars_mqtt::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerUrl {
    /// From the scheme: `mqtt`, `mqtts`, `ws` or `wss`, in any case.
    pub transport: Transport,
    /// Host name or address; an IPv6 address without its brackets.
    pub host: String,
    /// 1 to 65535. Default 1883, 8883, 80 or 443, by scheme.
    pub port: u16,
    /// Begins with `/` for a WebSocket, default `/mqtt`; else empty.
    pub path: String,
}

impl BrokerUrl {
    /// A broker at `host`, on the transport's default port and path.
    #[must_use]
    pub fn new(transport: Transport, host: impl Into<String>) -> Self {
        Self {
            transport,
            host: host.into(),
            port: transport.default_port(),
            path: if transport.is_websocket() {
                DEFAULT_PATH.to_owned()
            } else {
                String::new()
            },
        }
    }

    /// Takes a URL apart. User name and password are percent-decoded; a user name may stand
    /// without a password.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the form that is expected, and the URL without its password.
    pub fn parse(url: &str) -> Result<(Self, Option<Credentials>), Error> {
        parse(url).map_err(|reason| refused(url, reason))
    }
}

/// Refuses a URL with credentials, which would be lost: [`BrokerUrl::parse`] keeps them.
impl FromStr for BrokerUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        match Self::parse(url)? {
            (broker, None) => Ok(broker),
            (_, Some(_)) => Err(refused(url, "user name and password have no place here")),
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transport,
            host,
            port,
            path,
        } = self;
        let scheme = transport.scheme();
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}

fn refused(url: &str, reason: &'static str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("the URL {:?} is refused: {reason}; expected {EXPECTED}", redacted(url)),
    )
}

/// The parts of a URL, or why it is none.
pub(super) fn parse(url: &str) -> Result<(BrokerUrl, Option<Credentials>), &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("it has no scheme such as mqtt://")?;
    let transport = [
        Transport::Tcp,
        Transport::Tls,
        Transport::WebSocket,
        Transport::WebSocketTls,
    ]
    .into_iter()
    .find(|transport| transport.scheme().eq_ignore_ascii_case(scheme))
    .ok_or("its scheme is not mqtt, mqtts, ws or wss")?;

    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.contains('@') {
        // Also keeps `user:pa/ss@host` from being taken for the host `user`.
        return Err("an `@` stands after `/`, `?` or `#`; in user name and password write these as %2F, %3F and %23");
    }
    if path.contains('?') {
        return Err("a query has no meaning here");
    }
    if path.contains('#') {
        return Err("a fragment has no meaning here");
    }

    // The last `@`: one inside a password is forgiven, as the original does.
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((userinfo, address)) => (Some(parse_userinfo(userinfo)?), address),
        None => (None, authority),
    };
    let (host, port) = parse_address(address)?;

    let mut broker = BrokerUrl::new(transport, host);
    broker.port = port.unwrap_or(broker.port);
    if !path.is_empty() {
        if !transport.is_websocket() {
            return Err("a path is for ws:// and wss:// only");
        }
        // It goes into the line of an HTTP request as it is.
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("its path has a character that must be percent-encoded");
        }
        path.clone_into(&mut broker.path);
    }
    Ok((broker, credentials))
}

fn parse_userinfo(userinfo: &str) -> Result<Credentials, &'static str> {
    let (username, password) = match userinfo.split_once(':') {
        Some((username, password)) => (username, Some(password)),
        None => (userinfo, None),
    };
    if username.is_empty() {
        return Err("there is an `@` and no user name before it");
    }
    let (username, password) = (decode(username)?, password.map(decode).transpose()?);
    if !is_mqtt_text(&username) {
        return Err("the user name has more than 65535 bytes or the character U+0000");
    }
    if !password.as_deref().is_none_or(is_password) {
        return Err("the password has more than 65535 bytes");
    }
    Ok(Credentials::new(username, password.map(SecretString::from)))
}

fn decode(text: &str) -> Result<String, &'static str> {
    let bad_escape = text.split('%').skip(1).any(|after| {
        let mut digits = after.bytes().take(2);
        !(digits.next().is_some_and(|b| b.is_ascii_hexdigit()) && digits.next().is_some_and(|b| b.is_ascii_hexdigit()))
    });
    if bad_escape {
        return Err("user name or password has a `%` without two hex digits after it (a plain `%` is %25)");
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| "user name or password is not UTF-8 once percent-decoded")
}

/// Host and port, of what stands between the credentials and the path.
fn parse_address(address: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(bracketed) = address.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or("a `[` has no `]`")?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err("what stands in brackets is not an IPv6 address");
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err("something other than a port follows the `]`"),
        }
    } else {
        let (host, port) = match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        };
        if host.is_empty() && !port.is_some_and(|port| port.contains(':')) {
            return Err("the host is empty");
        }
        if port.is_some_and(|port| port.contains(':')) {
            return Err("there is more than one `:` after the host; an IPv6 address goes in brackets");
        }
        if !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        {
            return Err("a host name has letters, digits, `-`, `.` and `_` only");
        }
        if host.len() > LONGEST_HOST {
            return Err("the host name is longer than 253 characters");
        }
        (host, port)
    };
    let port = match port {
        None => None,
        // `parse` alone would take a sign.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("the port is not in 1 to 65535"),
        },
        Some(_) => return Err("the port is not a number from 1 to 65535"),
    };
    Ok((host.to_owned(), port))
}

/// What can be shown of a URL, valid or not.
///
/// Everything up to the last `@` counts as user name and password, wherever that `@` stands, and
/// what stands in the port's place is shown only if it can be a port.
pub(super) fn redacted(url: &str) -> String {
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (mut shown, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        _ => (String::new(), url),
    };
    let rest = match rest.rsplit_once('@') {
        Some((userinfo, rest)) => {
            match userinfo.split_once(':') {
                Some((username, _)) => shown.extend([username, ":***@"]),
                None => shown.extend([userinfo, "@"]),
            }
            rest
        }
        None => rest,
    };

    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (address, extra) = rest.split_at(end);
    let (address, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    match address.rsplit_once(':') {
        Some((host, port)) if !address.ends_with(']') && !port.bytes().all(|byte| byte.is_ascii_digit()) => {
            shown.extend([host, ":***"]);
        }
        _ => shown.push_str(address),
    }
    shown.push_str(path);
    if let Some(mark) = extra.chars().next() {
        shown.push(mark);
        shown.push_str("***");
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn login(credentials: Option<Credentials>) -> Option<(String, Option<String>)> {
        credentials.map(|c| (c.username, c.password.map(|p| p.expose_secret().to_owned())))
    }

    #[test]
    fn takes_a_url_apart() {
        use Transport::{Tcp, Tls, WebSocket, WebSocketTls};
        let long = format!("mqtt://{}", "h".repeat(253));
        let table = [
            ("mqtt://localhost", Tcp, "localhost", 1883, ""),
            ("mqtts://localhost", Tls, "localhost", 8883, ""),
            ("ws://localhost", WebSocket, "localhost", 80, "/mqtt"),
            ("wss://localhost", WebSocketTls, "localhost", 443, "/mqtt"),
            ("MQTT://Local-Host_1.example.", Tcp, "Local-Host_1.example.", 1883, ""),
            ("mqtt://127.0.0.1:1", Tcp, "127.0.0.1", 1, ""),
            ("mqtt://h:65535", Tcp, "h", 65535, ""),
            ("mqtt://h:01883", Tcp, "h", 1883, ""),
            ("mqtt://[::1]", Tcp, "::1", 1883, ""),
            ("mqtts://[2001:db8::2]:7", Tls, "2001:db8::2", 7, ""),
            ("ws://h:9001/", WebSocket, "h", 9001, "/"),
            ("wss://h/a/b%20c", WebSocketTls, "h", 443, "/a/b%20c"),
            (&*long, Tcp, &long[7..], 1883, ""),
        ];
        for (text, transport, host, port, path) in table {
            let (url, credentials) = BrokerUrl::parse(text).unwrap();
            let expected = BrokerUrl {
                transport,
                host: host.to_owned(),
                port,
                path: path.to_owned(),
            };
            assert_eq!(url, expected, "{text}");
            assert!(credentials.is_none(), "{text}");
            assert_eq!(url.to_string().parse::<BrokerUrl>().unwrap(), url, "{text}");
        }
    }

    #[test]
    fn decodes_user_name_and_password() {
        let table = [
            ("mqtt://u:p@h", "u", Some("p")),
            ("mqtt://u@h", "u", None),
            ("mqtt://u:@h", "u", Some("")),
            ("mqtt://u:p:q@h", "u", Some("p:q")),
            ("mqtt://u:p@q@h", "u", Some("p@q")),
            ("mqtt://u%40x:p%3A%2f%25@h", "u@x", Some("p:/%")),
            ("mqtt://%C3%BC:%E2%82%AC+@h", "ü", Some("€+")),
            ("mqtt://ü:€@h", "ü", Some("€")),
            ("ws://u:p@[::1]:80/x", "u", Some("p")),
        ];
        for (text, username, password) in table {
            let (url, credentials) = BrokerUrl::parse(text).unwrap();
            assert_eq!(
                login(credentials),
                Some((username.into(), password.map(Into::into))),
                "{text}"
            );
            assert!(!url.to_string().contains('@'), "{text}");
            assert!(text.parse::<BrokerUrl>().is_err(), "credentials would be lost: {text}");
        }
    }

    #[test]
    fn refuses_with_a_reason_and_the_expected_form() {
        let long_host = format!("mqtt://{}", "h".repeat(254));
        let long = "x".repeat(65_536);
        let table = [
            ("", "no scheme"),
            ("localhost:1883", "no scheme"),
            ("mqtt:localhost", "no scheme"),
            ("http://localhost", "scheme is not"),
            ("tcp://localhost", "scheme is not"),
            (" mqtt://localhost", "scheme is not"),
            ("://localhost", "scheme is not"),
            ("mqtt://", "host is empty"),
            ("mqtt://:1883", "host is empty"),
            ("mqtt://u:p@", "host is empty"),
            ("mqtt://u:p@:1883", "host is empty"),
            ("ws:///mqtt", "host is empty"),
            ("mqtt://h:0", "not in 1 to 65535"),
            ("mqtt://h:65536", "not in 1 to 65535"),
            ("mqtt://h:", "not in 1 to 65535"),
            ("mqtt://h:99999999999999999999", "not in 1 to 65535"),
            ("mqtt://h:+1", "not a number"),
            ("mqtt://h:-1", "not a number"),
            ("mqtt://h:18x", "not a number"),
            ("mqtt://h:1883 ", "not a number"),
            ("mqtt://h:1:2", "brackets"),
            ("mqtt://::1", "brackets"),
            ("mqtt://[::1", "no `]`"),
            ("mqtt://[h]", "not an IPv6 address"),
            ("mqtt://[]", "not an IPv6 address"),
            ("mqtt://[127.0.0.1]", "not an IPv6 address"),
            ("mqtt://[::1]1883", "follows the `]`"),
            ("mqtt://[::1]:0", "not in 1 to 65535"),
            ("mqtt://h/", "path is for"),
            ("mqtts://h/mqtt", "path is for"),
            ("mqtt://h?x=1", "query"),
            ("ws://h/mqtt?x=1", "query"),
            ("mqtt://h#x", "fragment"),
            ("wss://h/mqtt#x", "fragment"),
            ("ws://h/a b", "percent-encoded"),
            ("ws://h/a\r\nX: y", "percent-encoded"),
            ("ws://h/ü", "percent-encoded"),
            ("mqtt://a b", "host name has"),
            ("mqtt://höst", "host name has"),
            ("mqtt://h%41", "host name has"),
            ("mqtt://h\0", "host name has"),
            (&*long_host, "longer than"),
            ("mqtt://@h", "no user name"),
            ("mqtt://:p@h", "no user name"),
            ("mqtt://u:%@h", "two hex digits"),
            ("mqtt://u:%4@h", "two hex digits"),
            ("mqtt://u%zz@h", "two hex digits"),
            ("mqtt://u:%+1@h", "two hex digits"),
            ("mqtt://u:%FF@h", "not UTF-8"),
            ("mqtt://%C3@h", "not UTF-8"),
            ("mqtt://u%00@h", "U+0000"),
            (&*format!("mqtt://{long}@h"), "user name has more"),
            (&*format!("mqtt://u:{long}@h"), "password has more"),
            ("mqtt://u:a/b@h", "%2F"),
            ("mqtt://u:a?b@h", "%2F"),
            ("mqtt://u:a#b@h", "%2F"),
        ];
        for (text, reason) in table {
            let error = BrokerUrl::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let message = error.to_string();
            assert!(message.contains(reason), "{text}: {message}");
            assert!(message.contains("mqtt://[user[:pass]@]host[:port]"), "{message}");
        }
    }

    #[test]
    fn shows_a_url_without_its_password() {
        let table = [
            ("mqtt://h:1883", "mqtt://h:1883"),
            ("mqtt://u:secret@h", "mqtt://u:***@h"),
            ("mqtt://u@h", "mqtt://u@h"),
            ("mqtt://u:se@cret@h:1", "mqtt://u:***@h:1"),
            ("mqtt://u:se/cret@h", "mqtt://u:***@h"),
            ("mqtt://u:se#cret?@h:x", "mqtt://u:***@h:***"),
            ("mqtt://u:secret", "mqtt://u:***"),
            ("u:secret@h", "u:***@h"),
            ("u:se://cret@h", "u:***@h"),
            ("mqtt:u:secret@h", "mqtt:***@h"),
            ("mqtt:///u:secret@h", "mqtt:///u:***@h"),
            ("mqtt://h?password=secret", "mqtt://h?***"),
            ("mqtt://h#secret", "mqtt://h#***"),
            ("ws://[::1]/p", "ws://[::1]/p"),
            ("ws://[::1]:80/p", "ws://[::1]:80/p"),
            ("", ""),
        ];
        for (url, shown) in table {
            assert_eq!(redacted(url), shown);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".*") {
            let _ = BrokerUrl::parse(&text);
            let _ = redacted(&text);
        }

        #[test]
        fn anything_after_a_scheme_is_taken_or_refused(rest in r"[a-z0-9:/@\[\]?#%.ü ]{0,24}") {
            let text = format!("ws://{rest}");
            if let Ok((url, _)) = BrokerUrl::parse(&text) {
                prop_assert_eq!(url.to_string().parse::<BrokerUrl>().unwrap(), url);
            }
        }

        #[test]
        fn no_text_shows_the_password(
            scheme in prop::sample::select(vec!["mqtt://", "ws://", "http://", "", "mqtt:", "mqtt:/", "://"]),
            before in r"[^\PC]{0,6}",
            after in r"[^\PC]{0,6}",
            host in r"[a-z:/?#\[\]%]{0,8}",
        ) {
            let url = format!("{scheme}user:{before}hunter2{after}@{host}");
            prop_assert!(!redacted(&url).contains("hunter2"), "{}", redacted(&url));
            let text = match BrokerUrl::parse(&url) {
                Ok((parsed, credentials)) => format!("{parsed:?} {parsed} {credentials:?}"),
                Err(error) => format!("{error:?} {error}"),
            };
            prop_assert!(!text.contains("hunter2"), "{}", text);
        }

        #[test]
        fn every_login_survives_its_encoding(username in "[^\0]{1,12}", password in ".{0,12}") {
            use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let url = format!("mqtt://{}:{}@h", encode(&username), encode(&password));
            let (_, credentials) = BrokerUrl::parse(&url).unwrap();
            prop_assert_eq!(login(credentials), Some((username, Some(password))));
        }
    }
}
