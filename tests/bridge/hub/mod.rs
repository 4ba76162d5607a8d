//! The stand-in as an Azure IoT Hub: what its devices see on MQTT, and what the in-process handle tells.

mod device;
mod faults;
mod login;
mod messages;
mod methods;
mod provisioning;
mod rules;
mod service;
mod tls;
mod twins;
mod websocket;
