//! The scenarios of the table in which a session stands: what is sent into it, what is withheld, and what becomes of it.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{Packet, PubAck};
use serde_json::json;
use tokio::time::{sleep, timeout};
use twinagent::bridge::{Door, Fault, RawPublish, Times};
use twinagent::config::Folders;
use twinagent::daemon::{self, Parts};
use twinagent::handler::built_in;

use super::scenario::{Does, Doing, Scenario, Where};
use super::table::{LONG, SHORT, alert, hasty_and_alert, kept, never, packet, plain, publish};
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE};
use crate::program::{problem, status};

/// A twin is settled by the cloud's own answers.
const ON_PUBACKS: Where = Where::Alone(Kind::IotCore, "answers travel in the twin there, which no PUBACK settles");

/// Those of this cloud.
pub(super) fn sessions(kind: Kind) -> Vec<Scenario> {
    let stands = |name, faults, bytes, lasts, reasons| Scenario {
        name,
        told: Where::Everywhere,
        does: Does::Session(faults, bytes),
        lasts,
        reasons,
        setup: plain,
    };
    let other = |name, does, lasts, reasons| Scenario {
        name,
        told: Where::Everywhere,
        does: Does::Other(does),
        lasts,
        reasons,
        setup: plain,
    };
    let kick = |name, time, lasts, reasons| Scenario {
        name,
        told: Where::Everywhere,
        does: Does::Logins(vec![Fault::Kick(time)]),
        lasts,
        reasons,
        setup: plain,
    };
    let retained = RawPublish { retain: true, ..publish(1, never(kind), "") }.to_bytes();
    let pongs = Bytes::from_static(&[0xd0, 0]).repeat(10_000).into();
    let acks = packet(&Packet::PubAck(PubAck::new(64))).repeat(1_000).into();
    let half = publish(1, never(kind), vec![b' '; 16]).to_bytes();
    let half = half.slice(..half.len() - 8);
    let foreign = match kind {
        Kind::IotCore => "/devices/gw-2/commands/count/never",
        Kind::IotHub => "devices/gw-2/messages/devicebound/%24.mid=never&method=count",
    };
    vec![
        Scenario {
            setup: alert,
            ..stands("no PINGRESP", vec![Fault::WithholdPingresps], vec![], LONG, &["dead-link"])
        },
        Scenario {
            setup: alert,
            ..stands("half a packet, then silence", vec![Fault::WithholdPingresps], vec![half], LONG, &["dead-link"])
        },
        stands("a retained command", vec![], vec![retained], SHORT, &[]),
        stands("a command of another device", vec![], vec![publish(1, foreign, "").to_bytes()], SHORT, &[]),
        stands("10 000 PINGRESPs", vec![], vec![pongs], SHORT, &[]),
        stands("1 000 PUBACKs for nothing", vec![], vec![acks], SHORT, &["protocol"]),
        other("one command, fifty times", repeat, SHORT, &[]),
        other("payloads tens of thousands of levels deep", deep, SHORT, &[]),
        Scenario { told: ON_PUBACKS, ..other("PUBACKs withheld", withhold, SHORT, &[]) },
        Scenario { told: ON_PUBACKS, ..other("PUBACKs withheld until nothing more may be sent", fill, LONG, &[]) },
        other("configurations huge, deep and broken", odd_configurations, SHORT, &[]),
        other("500 configurations, one after another", configurations, SHORT, &[]),
        other("half a packet, then the end", cut, SHORT, &["lost"]),
        Scenario {
            setup: hasty_and_alert,
            ..other("a broker that freezes", freeze, Duration::from_secs(8), &["dead-link", "time-out"])
        },
        Scenario { setup: kept, ..other("a session that is lost", forget, SHORT, &["kicked-early"]) },
        Scenario { setup: kept, ..other("poison that a kept session holds", poison_session, LONG, &["undecodable"]) },
        // Before the subscriptions are granted there is no session yet.
        kick("closed right after the login", Duration::ZERO, SHORT, &["closed"]),
        kick(
            "closed soon after each login",
            Duration::from_millis(700),
            Duration::from_secs(8),
            &["kicked-early", "taken-over"],
        ),
        other("another device with this identity", clone, Duration::from_secs(10), &["kicked-early", "taken-over"]),
    ]
}

fn repeat(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let again = |n: u16| RawPublish { dup: n > 0, ..device.cloud.command("count/once", "", 50_000 + n) };
        device.cloud.publish(&(0..50).map(again).collect::<Vec<_>>()).await;
        device.answer("once", 200).await;
    })
}

fn deep(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        // As deep as the largest message of this cloud can be.
        let levels = match device.cloud.kind() {
            Kind::IotCore => 50_000,
            Kind::IotHub => 10_000,
        };
        let deep = |open: &str, close: &str| open.repeat(levels) + &close.repeat(levels);
        for (n, body) in (0..).zip([deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(2 * levels)]) {
            let in_place = device.cloud.command("count/never", body.clone(), 50_000 + n);
            let in_envelope = device.cloud.command("", format!(r#"{{"method":"count","payload":{body}}}"#), 50_100 + n);
            device.cloud.publish(&[in_place, in_envelope]).await;
        }
        // Each is answered as what it is: no command.
        device.answer("never", 400).await;
    })
}

fn withhold(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        device.cloud.add_fault(Fault::WithholdPubacks, Times::Always).await;
        for n in 0..10 {
            device.send(&format!("count/w-{n}"), "").await;
            device.answer(&format!("w-{n}"), 200).await;
        }
    })
}

/// More commands than answers may be on their way: those that are taken on all run, and are all told in the end.
fn fill(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        device.cloud.add_fault(Fault::WithholdPubacks, Times::Always).await;
        let many = (0..300).map(|n| (format!("count/f-{n}"), Bytes::new())).collect();
        device.cloud.send_many(many).await.expect("commands are acknowledged all the same");
        let ran = || -> Vec<String> { device.counted().into_keys().filter(|id| id.starts_with("f-")).collect() };
        let taken_on = async {
            while ran().len() < 64 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        // Fewer are told below.
        let _ = timeout(PATIENCE, taken_on).await;
        sleep(Duration::from_secs(3)).await;
        let ran = ran();
        assert_eq!(ran.len(), 64, "as many as may be untold, and no more");
        device.cloud.clear_faults().await;
        for id in ran {
            device.answer(&id, 200).await;
        }
    })
}

fn odd_configurations(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let bodies = [
            Bytes::from(vec![b'x'; 290 * 1024]),
            Bytes::from(format!("{{\"a\":\"{}\"}}", "x".repeat(290 * 1024))),
            Bytes::from("{\"a\":".repeat(50_000) + "1" + &"}".repeat(50_000)),
            Bytes::from("[".repeat(250_000)),
            Bytes::from_static(b"\xff\xfe\0{"),
            Bytes::new(),
        ];
        let messages: Vec<_> = (0..).zip(bodies).map(|(n, body)| device.cloud.wish(n, body)).collect();
        device.cloud.publish(&messages).await;
        device.cloud.set_desired("{}").await;
        device.twin(|twin| twin["desired"]["status"] == 200).await;
    })
}

fn configurations(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let numbered = |n: u16| device.cloud.wish(n, json!({ "n": n }).to_string());
        device.cloud.publish(&(0..500).map(numbered).collect::<Vec<_>>()).await;
        device.cloud.set_desired(r#"{"n":"last"}"#).await;
        device.twin(|twin| twin["desired"]["status"] == 200).await;
    })
}

fn cut(device: &mut Device) -> Doing<'_> {
    Box::pin(async { device.cloud.cut().await })
}

fn freeze(device: &mut Device) -> Doing<'_> {
    Box::pin(async { device.cloud.set_door(Door::Frozen) })
}

/// The same card in another machine, for nearly as long as the scenario lasts.
fn clone(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let (state, runtime) = (device.path("clone/state"), device.path("clone/run"));
        for folder in [&state, &runtime] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let folders = Folders { state, runtime, ..device.folders() };
        let parts = Parts { folders, file: None, handlers: built_in(), machine: device.machine };
        let clone = tokio::spawn(daemon::run(parts, pending()));
        sleep(Duration::from_secs(9)).await;
        // Where logins take long it is found out later than by then.
        status(device, |status| problem(&status["problems"], "taken-over").is_some()).await;
        clone.abort();
        assert!(clone.await.is_err_and(|end| end.is_cancelled()), "it ran until then");
    })
}

fn forget(device: &mut Device) -> Doing<'_> {
    Box::pin(async { device.cloud.forget_session().await })
}

/// Nobody takes it back: the agent itself must find out that this session is of no use.
fn poison_session(device: &mut Device) -> Doing<'_> {
    Box::pin(async {
        let huge = device.cloud.command("count/never", vec![b' '; 2 * 1024 * 1024], 50_000).to_bytes();
        device.cloud.poison(huge).await;
    })
}
