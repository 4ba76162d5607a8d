//! Faults by the name of a device of the hub: the same as for the other cloud.

use rumqttc::mqttbytes::v4::{Connect, Packet};
use twinagent::bridge::{Canonical, Fault, HubName, Times};

use super::device::{HubWorld, MESSAGES, good};
use crate::raw::{Seen, publish};

#[tokio::test]
async fn logins_and_acknowledgements_fail_as_asked() {
    let world = HubWorld::new().await;
    world.faults.add(&world.device, Fault::RefuseLogin(3), Times::Next(1)).await.expect("asked for");
    assert_eq!(world.login(good()).await, 3);
    world.faults.add(&world.device, Fault::WithholdPubacks, Times::Always).await.expect("asked for");
    let mut raw = world.online(&[]).await;
    raw.send(publish("devices/dev1/messages/events/", "x")).await;
    raw.ping().await;
    assert_eq!(world.faults.clear(&world.device).await, Ok(1));
    assert!(matches!(raw.next().await, Seen::Packet(Packet::PubAck(ack)) if ack.pkid == 1));
    world.faults.cut(&world.device).await.expect("connected");
    assert_eq!(raw.next().await, Seen::Closed, "half a packet is none");
    let nobody = HubName::device("nobody").expect("a name");
    assert_eq!(world.faults.close(&nobody).await.expect_err("unknown").status, Canonical::NotFound);
}

#[tokio::test]
async fn a_session_can_be_poisoned_and_forgotten() {
    let world = HubWorld::new().await;
    let kept = || -> Connect {
        let mut connect = good();
        connect.clean_session = false;
        connect
    };
    let (mut raw, _) = world.online_with(kept(), &[MESSAGES]).await;
    world.faults.poison(&world.device, &b"\xff\xff\xff\xff\xff"[..]).await.expect("there is a session");
    assert_eq!(raw.next().await, Seen::Undecodable);
    let (mut raw, present) = world.online_with(kept(), &[]).await;
    assert!(present);
    assert_eq!(raw.next().await, Seen::Undecodable);
    world.faults.forget_session(&world.device).await.expect("the device is there");
    let (mut raw, present) = world.online_with(kept(), &[]).await;
    assert!(!present);
    raw.ping().await;
}
