//! The seeds of `fuzz/corpus/mqtt`, sent by a broker over a real stream: a connection makes of them what `incoming` says,
//! and whatever they are, it ends with a typed reason.

use std::fs;

use tokio::io::AsyncWriteExt as _;
use twinagent::model::wire::Reason;
use twinagent::mqtt::incoming::{self, Incoming};
use twinagent::mqtt::{Ask, Event, PACKET_LIMIT};

use crate::broker::{next, online};

#[tokio::test]
async fn each_seed_ends_a_connection_as_it_is_named() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/mqtt");
    let mut judged = 0;
    for seed in fs::read_dir(folder).expect("the seeds") {
        let path = seed.expect("a seed").path();
        let name = path.display();
        let bytes = fs::read(&path).expect("a seed");
        let (mut link, mut broker) = online(|_| {}).await;
        // The connection may end before all of it was read.
        let sent = bytes.clone();
        let sending = tokio::spawn(async move {
            let written = broker.stream.write_all(&sent).await.is_ok() && broker.stream.shutdown().await.is_ok();
            (broker, written)
        });

        let heard = incoming::read(&bytes, PACKET_LIMIT);
        let mut expected = Some(heard.rest);
        for packet in heard.packets {
            match packet {
                Incoming::Message(packet, _) => match next(&mut link).await {
                    Event::Received(delivery, received) => {
                        assert_eq!(received, packet, "{name}");
                        // Refused if the connection has ended behind this message.
                        let _ = link.ask(Ask::Ack(delivery));
                    }
                    other => panic!("{name}: {other:?}"),
                },
                Incoming::Settled(_) => {
                    // Nothing of ours is in flight.
                    expected = None;
                    break;
                }
                Incoming::Pong => {}
            }
        }
        let Event::Ended(reason) = next(&mut link).await else { panic!("{name} goes on") };
        match expected {
            Some(Err(expected)) => assert_eq!(reason, expected, "{name}"),
            Some(Ok(_)) => assert!(matches!(reason, Reason::Closed | Reason::Lost(_)), "{name}: {reason:?}"),
            None => assert!(matches!(reason, Reason::Protocol(_)), "{name}: {reason:?}"),
        }
        sending.await.expect("no panic");
        judged += 1;
    }
    assert!(judged >= 40, "only {judged} seeds");
}
