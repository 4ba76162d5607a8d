//! The main road with rumqttc's own client, which knows nothing of this bridge.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, Publish, QoS};
use tokio::time::timeout;
use twinagent::bridge::Canonical;

use crate::support::{LIMIT, World};

fn client(world: &World) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(world.device.to_string(), "127.0.0.1", world.mqtt().port());
    options.set_credentials("unused", world.key.token(3600)).set_max_packet_size(300 * 1024, 300 * 1024);
    AsyncClient::new(options, 10)
}

async fn next(events: &mut EventLoop, wanted: impl Fn(&Incoming) -> bool) -> Incoming {
    let found = async {
        loop {
            match events.poll().await.expect("the connection stays") {
                Event::Incoming(packet) if wanted(&packet) => return packet,
                _ => {}
            }
        }
    };
    timeout(LIMIT, found).await.expect("the packet comes")
}

async fn next_publish(events: &mut EventLoop) -> Publish {
    match next(events, |packet| matches!(packet, Incoming::Publish(_))).await {
        Incoming::Publish(publish) => publish,
        other => unreachable!("only a publish was waited for, not {other:?}"),
    }
}

#[tokio::test]
async fn a_device_gets_config_and_commands_and_its_state_and_telemetry_arrive() {
    let world = World::new().await;
    let mut telemetry = world.cloud.telemetry().await.expect("a tap");
    let offline = world.cloud.send_command(&world.device, "echo/1", "x").await.expect_err("nobody is there");
    assert_eq!(offline.status, Canonical::FailedPrecondition);
    assert_eq!(offline.message, "Device 'gw-1' is not subscribed to the commands topic.");

    let (client, mut events) = client(&world);
    client.subscribe("/devices/gw-1/config", QoS::AtLeastOnce).await.expect("queued");
    let config = next_publish(&mut events).await;
    assert_eq!(
        (config.topic.as_str(), config.payload.len(), config.qos),
        ("/devices/gw-1/config", 0, QoS::AtLeastOnce)
    );
    client.subscribe("/devices/gw-1/commands/#", QoS::AtLeastOnce).await.expect("queued");
    next(&mut events, |packet| matches!(packet, Incoming::SubAck(_))).await;
    assert!(world.cloud.takes_commands(&world.device).await.expect("the device is there"));

    world.cloud.set_config(&world.device, "{\"a\":1}").await.expect("a new version");
    assert_eq!(next_publish(&mut events).await.payload, "{\"a\":1}");

    // The call returns only when the device has acknowledged.
    let sending = tokio::spawn({
        let (cloud, device) = (world.cloud.clone(), world.device.clone());
        async move { cloud.send_command(&device, "rebootDevice/42", "{}").await }
    });
    let command = next_publish(&mut events).await;
    assert_eq!((command.topic.as_str(), &command.payload[..]), ("/devices/gw-1/commands/rebootDevice/42", &b"{}"[..]));
    assert!(!command.retain && !command.dup);
    assert!(!sending.is_finished(), "no PUBACK was sent yet");

    client.publish("/devices/gw-1/state", QoS::AtLeastOnce, false, "{\"state\":1}").await.expect("queued");
    client.publish("/devices/gw-1/events/alerts/hot", QoS::AtLeastOnce, false, "42 C").await.expect("queued");
    for _ in 0..2 {
        next(&mut events, |packet| matches!(packet, Incoming::PubAck(_))).await;
    }
    sending.await.expect("no panic").expect("acknowledged");
    let event = timeout(LIMIT, telemetry.recv()).await.expect("in time").expect("an event");
    assert_eq!((event.subfolder.as_str(), &event.payload[..]), ("alerts/hot", &b"42 C"[..]));
    let states = world.cloud.states(&world.device).await.expect("the device is there");
    assert_eq!(states[0].1, "{\"state\":1}");

    let resource = world.resource().await;
    assert_eq!(resource["config"]["version"], "2");
    for time in ["lastEventTime", "lastStateTime", "lastConfigAckTime", "lastConfigSendTime"] {
        assert!(resource[time].is_string(), "{time} in {resource}");
    }
    assert!(resource["config"]["deviceAckTime"].is_string());
    assert!(resource.get("lastErrorStatus").is_none());

    client.disconnect().await.expect("queued");
    while events.poll().await.is_ok() {}
    let gone = async {
        while world.cloud.connected(&world.device).await.expect("the device is there") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, gone).await.expect("the bridge notices");
    world.bridge.stop().await;
}
