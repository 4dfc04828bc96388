//! The test kit tested: brokers that are to judge others must themselves be right.

mod memory;
mod scripted;
