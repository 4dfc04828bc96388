use std::sync::atomic::{AtomicBool, Ordering};

use tars_mqtt::ports::{Capabilities, ConnectOptions, Connected, Connector, SessionState};
use tars_mqtt::{Client, Error, ErrorKind};
use tars_testkit::memory::{MemoryBroker, MemoryConnector};

use crate::{client_with, config, payload_text, secs, settle};

fn scoped(broker: &MemoryBroker) -> Client {
    client_with(broker, config("svc").enable_health(true))
}

fn ended_well(broker: &MemoryBroker) {
    assert!(broker.connections().is_empty());
    let last = broker.retained("system/health/svc").unwrap();
    assert!(payload_text(&last.payload).contains(r#""event":"shutdown""#));
}

#[tokio::test(start_paused = true)]
async fn it_connects_runs_and_shuts_down() {
    let broker = MemoryBroker::new();
    let result: Result<usize, Error> = scoped(&broker)
        .run_until(|client| async move {
            client.publish("a", "x").await?;
            Ok(broker_sees(&client))
        })
        .await;
    assert_eq!(result.unwrap(), 1);
    ended_well(&broker);
}

fn broker_sees(client: &Client) -> usize {
    usize::from(client.is_connected())
}

#[tokio::test(start_paused = true)]
async fn it_shuts_down_on_an_error_too() {
    let broker = MemoryBroker::new();
    let result: Result<(), Error> = scoped(&broker)
        .run_until(async |_| Err(Error::new(ErrorKind::Internal, "mine")))
        .await;
    assert_eq!(result.unwrap_err().to_string(), "mine");
    ended_well(&broker);
}

#[tokio::test(start_paused = true)]
async fn it_shuts_down_on_a_panic_and_passes_it_on() {
    let broker = MemoryBroker::new();
    let client = scoped(&broker);
    let scope = tokio::spawn(async move {
        client
            .run_until::<_, _, (), Error>(|_| async {
                settle().await;
                panic!("as the test wants")
            })
            .await
    });
    assert!(scope.await.unwrap_err().is_panic());
    ended_well(&broker);
}

#[tokio::test(start_paused = true)]
async fn cancelled_the_session_shuts_down_by_itself() {
    let broker = MemoryBroker::new();
    let client = scoped(&broker);
    let scope = tokio::spawn(client.run_until::<_, _, (), Error>(|_| std::future::pending()));
    settle().await;
    assert_eq!(broker.connections(), ["svc"]);
    scope.abort();
    broker.wait_until(|broker| broker.connections().is_empty()).await;
    ended_well(&broker);
}

#[tokio::test(start_paused = true)]
async fn with_reconnect_off_a_lost_link_ends_the_scope_with_its_reason() {
    let broker = MemoryBroker::new();
    let client = client_with(&broker, config("svc").reconnect(false));
    let scope = tokio::spawn(client.run_until::<_, _, (), Error>(|_| std::future::pending()));
    settle().await;
    broker.cut("svc");
    assert_eq!(scope.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionLost);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_scopes_error() {
    let broker = MemoryBroker::new();
    broker.stop();
    let result = scoped(&broker)
        .run_until::<_, _, (), Error>(|_| std::future::pending())
        .await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Unreachable);
}

/// Its second attempt panics.
struct Faulty(MemoryConnector, AtomicBool);

#[async_trait::async_trait]
impl Connector for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error> {
        assert!(!self.1.swap(true, Ordering::SeqCst), "as the test wants");
        self.0.connect(options, session).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_ends_the_scope_instead_of_leaving_it_without_a_client() {
    let broker = MemoryBroker::new();
    let client = Client::builder(config("svc").build().unwrap())
        .connector(Faulty(broker.connector(), AtomicBool::new(false)))
        .build()
        .unwrap();
    let scope = tokio::spawn(client.run_until::<_, _, (), Error>(|_| std::future::pending()));
    settle().await;
    broker.cut("svc");
    let ended = tokio::time::timeout(secs(60), scope).await.unwrap();
    assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Internal);
}
