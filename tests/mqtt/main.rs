//! One connection, from the order to its typed end, against brokers on loopback: scripted byte by byte, and a real mosquitto.

mod broker;
mod ends;
mod flow;
mod health;
mod mosquitto;
mod prepared;
mod seeds;
#[cfg(feature = "bridge")]
mod tls;
