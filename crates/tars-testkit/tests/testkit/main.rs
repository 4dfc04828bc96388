//! The test kit tested: brokers that are to judge others must themselves be right.

#[cfg(feature = "embedded")]
mod embedded;
mod memory;
mod mosquitto;
mod scripted;
mod test_broker;
