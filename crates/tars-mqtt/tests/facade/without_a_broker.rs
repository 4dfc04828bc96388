//! A service tested with the mockall fakes of the ports: no broker, no connection.

use tars_mqtt::ports::mock::{MockConnector, MockPublisher};
use tars_mqtt::ports::{Publisher, PublisherExt};
use tars_mqtt::{Client, Error, ErrorKind, Message, QoS, Receipt};

use crate::config;

/// The service under test depends on the port alone.
struct Announcer<P>(P);

impl<P: Publisher> Announcer<P> {
    async fn announce(&self, name: &str) -> Result<(), Error> {
        let topic = format!("announce/{name}").parse().map_err(Error::from)?;
        let message = Message::new(topic, name.to_owned()).with_qos(QoS::AtLeastOnce);
        self.0.publish(message).await?.await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_service_publishes_through_the_port() {
    let mut publisher = MockPublisher::new();
    publisher
        .expect_try_publish()
        .withf(|message| message.topic.as_str() == "announce/arm" && message.qos == QoS::AtLeastOnce)
        .times(1)
        .returning(|_| Ok(Receipt::settled()));
    Announcer(publisher).announce("arm").await.unwrap();
}

#[tokio::test]
async fn a_failing_publish_reaches_the_caller() {
    let mut publisher = MockPublisher::new();
    publisher.expect_try_publish().returning(|_| {
        let (settler, receipt) = Receipt::pair();
        settler.settle(Err(Error::new(ErrorKind::Timeout, "no answer")));
        Ok(receipt)
    });
    assert_eq!(
        Announcer(publisher).announce("arm").await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_on_a_fake_connector_reports_what_it_says() {
    let mut connector = MockConnector::new();
    connector.expect_capabilities().returning(Default::default);
    connector.expect_connect().times(1).returning(|options, _| {
        assert_eq!(options.client_id, "svc");
        Err(Error::new(ErrorKind::HostNotFound, "who is that?"))
    });
    let client = Client::builder(config("svc").build().unwrap())
        .connector(connector)
        .build()
        .unwrap();
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::HostNotFound);
}
