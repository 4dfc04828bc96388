//! Credentials by callback, and transports that are not there.

use tars_mqtt::{Client, ConfigBuilder, Credentials, Error, ErrorKind, LifecycleEvent, State};
use tars_testkit::memory::MemoryBroker;

use crate::{Seen, config, secs};

fn client<Answer>(
    broker: &MemoryBroker,
    config: ConfigBuilder,
    provider: impl Fn() -> Answer + Send + Sync + 'static,
) -> Client
where
    Answer: Future<Output = Result<Credentials, Error>> + Send + 'static,
{
    let builder = Client::builder(config.build().unwrap()).connector(broker.connector());
    builder.credentials(provider).seed(7).build().unwrap()
}

fn token(number: usize) -> Credentials {
    Credentials::new("svc", Some(format!("token {number}").into()))
}

#[tokio::test(start_paused = true)]
async fn the_callback_is_asked_before_each_attempt_and_overrides_the_configuration() {
    let broker = MemoryBroker::new().with_credentials("svc", "token 1");
    let asked = Seen::default();
    let provider = {
        let asked = asked.clone();
        move || {
            asked.push("asked");
            std::future::ready(Ok(token(asked.len())))
        }
    };
    let client = client(&broker, config("svc").username("other").password("stale"), provider);
    client.connect().await.unwrap();
    let _ = broker.clone().with_credentials("svc", "token 2");
    broker.cut("svc");
    client.state().until(State::Reconnecting).await;
    client.state().until(State::Connected).await;
    assert_eq!(asked.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_callback_says_is_the_callers_error() {
    let broker = MemoryBroker::new();
    let failing = client(&broker, config("svc"), async || {
        Err(Error::new(ErrorKind::Unreachable, "the vault is sealed"))
    });
    let error = failing.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(error.to_string(), "asking for credentials: the vault is sealed");
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_hangs_or_panics_is_a_failed_attempt_and_not_the_end() {
    let broker = MemoryBroker::new();
    let began = tokio::time::Instant::now();
    let hanging = client(
        &broker,
        config("svc").connect_timeout(secs(3)),
        std::future::pending::<Result<Credentials, Error>>,
    );
    let error = hanging.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(began.elapsed(), secs(3));

    let asked = Seen::default();
    let provider = {
        let asked = asked.clone();
        move || {
            asked.push("asked");
            assert!(asked.len() > 1, "not the first time");
            std::future::ready(Ok(token(1)))
        }
    };
    let panicking = client(&broker, config("svc").connect_retry(true), provider);
    let mut events = panicking.lifecycle();
    panicking.connect().await.unwrap();
    let Some(LifecycleEvent::ConnectFailed { error }) = events.next().await else {
        panic!("the first attempt failed");
    };
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn a_scheme_that_the_adapter_lacks_is_told_before_any_attempt() {
    for (url, feature) in [
        ("mqtts://memory", "`tls`"),
        ("ws://memory", "`websocket`"),
        ("wss://memory", "`tls` and `websocket`"),
    ] {
        let config = config("svc").url(url).build().unwrap();
        let builder = Client::builder(config).connector(MemoryBroker::new().connector());
        let error = builder.build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(feature), "{error}");
    }
}
