//! The stand-in cloud, seen from outside: by an MQTT client that was not written for it, by raw packets, by REST.
#![cfg(feature = "bridge")]

mod faults;
mod files;
mod login;
mod raw;
mod rest;
mod rules;
mod sessions;
mod stock_client;
mod support;
