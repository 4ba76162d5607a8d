//! The stand-in cloud, seen from outside: by an MQTT client that was not written for it, by raw packets, by REST.
#![cfg(feature = "bridge")]
#![allow(clippy::disallowed_methods, reason = "tests look at the clock")]

mod certificates;
mod faults;
mod fields;
mod files;
mod http;
mod hub;
mod login;
mod raw;
mod resource;
mod rest;
mod rules;
mod serve;
mod sessions;
mod stock_client;
mod support;
