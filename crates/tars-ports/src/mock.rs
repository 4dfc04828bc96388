//! mockall fakes of the ports, for services and layers tested without a broker.
//!
//! ```
//! use tars_ports::{Message, Publisher, PublisherExt, Receipt, mock::MockPublisher};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let mut publisher = MockPublisher::new();
//! publisher
//!     .expect_try_publish()
//!     .withf(|message: &Message| message.topic.as_str() == "stt/final")
//!     .times(1)
//!     .returning(|_| Ok(Receipt::settled()));
//!
//! let topic = "stt/final".parse().unwrap();
//! publisher.publish(Message::new(topic, "hi")).await.unwrap().await.unwrap();
//! # }
//! ```
#![allow(missing_docs)]

use async_trait::async_trait;
use mockall::mock;
use tars_contracts::TopicFilter;

use crate::{
    AckOutcome, AckToken, Activity, Capabilities, ConnectOptions, Connected, Connection, Connector, Error, Message,
    Publisher, QoS, Receipt, Refused, SessionState, Subscriber, TryPublishError,
};

mock! {
    pub Publisher {}
    #[async_trait]
    impl Publisher for Publisher {
        fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError>;
        async fn ready(&self, qos: QoS) -> Result<(), Error>;
    }
}

mock! {
    pub Subscriber {}
    #[async_trait]
    impl Subscriber for Subscriber {
        async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error>;
        async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error>;
    }
}

mock! {
    pub Connector {}
    #[async_trait]
    impl Connector for Connector {
        fn capabilities(&self) -> Capabilities;
        async fn connect(&self, options: &ConnectOptions, session: SessionState) -> Result<Connected, Error>;
    }
}

mock! {
    pub Connection {}
    #[async_trait]
    impl Publisher for Connection {
        fn try_publish(&self, message: Message) -> Result<Receipt, TryPublishError>;
        async fn ready(&self, qos: QoS) -> Result<(), Error>;
    }
    #[async_trait]
    impl Subscriber for Connection {
        async fn subscribe(&self, filters: &[(TopicFilter, QoS)]) -> Result<Vec<Result<QoS, Refused>>, Error>;
        async fn unsubscribe(&self, filters: &[TopicFilter]) -> Result<(), Error>;
    }
    #[async_trait]
    impl Connection for Connection {
        fn ack(&self, token: AckToken, outcome: AckOutcome);
        fn activity(&self) -> Activity;
        async fn disconnect(&self) -> Result<(), Error>;
        fn close(&self);
    }
}
