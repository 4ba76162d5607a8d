//! One connection, from the order to its typed end, against brokers on loopback: scripted byte by byte, and a real mosquitto.

#[cfg(feature = "bridge")]
mod authority;
mod broker;
#[cfg(feature = "bridge")]
mod distrust;
mod ends;
mod flow;
mod health;
#[cfg(feature = "bridge")]
mod identity;
mod mosquitto;
mod prepared;
mod proxy;
#[cfg(feature = "bridge")]
mod resumed;
mod seeds;
#[cfg(feature = "bridge")]
mod tls;
mod websocket;
