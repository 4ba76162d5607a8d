//! An agent that is online, for decoders whose bytes go as far as its decisions: it is handed inputs, and what comes out
//! must be fit for the journal and for the cloud.

use std::time::Duration;

use twinagent::dialect::iotcore::IotCore;
use twinagent::dialect::iothub::IotHub;
use twinagent::dialect::{Dialect, Encoded};
use twinagent::model::agent::{Agent, Effect, Input, Settings};
use twinagent::model::cloud::{Outbound, Road};
use twinagent::model::durable::Durable;
use twinagent::model::now::Now;
use twinagent::model::reboot::Mode;
use twinagent::model::record::Record;
use twinagent::model::wire::{Delivery, MessageId};

use super::{iotcore, iothub, journal};

#[allow(dead_code, reason = "what tests of the model begin with is shared, and not all of it is needed here")]
#[path = "../../tests/support/given.rs"]
mod given;

/// The largest message that either cloud takes, in bytes.
const LARGEST: usize = 256 * 1_024;

/// The moment at which all of it happens.
pub fn now() -> Now {
    given::moment(Duration::from_secs(1_000_000), Duration::ZERO, 1)
}

/// The cloud that it talks to.
#[derive(Debug)]
enum Cloud {
    Core(IotCore),
    Hub(IotHub),
}

impl Cloud {
    fn dialect(&self) -> &dyn Dialect {
        match self {
            Self::Core(dialect) => dialect,
            Self::Hub(dialect) => dialect,
        }
    }
}

#[derive(Debug)]
pub struct Online {
    agent: Agent,
    cloud: Cloud,
    records: Vec<Record>,
    deliveries: u64,
}

impl Online {
    pub fn begin() -> Self {
        let settings = given::settings(Road::Own, Mode::Simulated(Duration::from_secs(1)));
        Self::with(settings, Cloud::Core(iotcore::dialect())).0
    }

    /// At an IoT hub, with what the agent does first there.
    pub fn at_hub() -> (Self, Vec<Effect>) {
        let dialect = iothub::dialect();
        let settings = given::settings(Road::Direct, Mode::Simulated(Duration::from_secs(1)));
        Self::with(Settings { cloud: Ok(dialect.limits()), ..settings }, Cloud::Hub(dialect))
    }

    fn with(settings: Settings, cloud: Cloud) -> (Self, Vec<Effect>) {
        let agent = Agent::new(settings, Durable::default(), None, 1, &now());
        let mut online = Self { agent, cloud, records: Vec::new(), deliveries: 0 };
        let mut first = online.take(Input::Begin { left_clean: None });
        first.extend(online.take(Input::Online { session_kept: false, tls: None }));
        (online, first)
    }

    /// Hears a payload on a topic. It is acknowledged once, whatever it is.
    pub fn hear(&mut self, topic: &str, payload: &[u8]) -> Vec<Effect> {
        let heard = self.cloud.dialect().decode(&iotcore::packet(topic, payload));
        match self.cloud {
            Cloud::Core(_) => iotcore::judge(&heard),
            Cloud::Hub(_) => iothub::judge(&heard),
        };
        self.deliveries += 1;
        let delivery = Delivery(self.deliveries);
        let effects = self.take(Input::Cloud(heard, delivery));
        let acks = effects.iter().filter(|effect| **effect == Effect::Ack(delivery)).count();
        assert_eq!(acks, 1, "each message is acknowledged once");
        effects
    }

    /// One batch, as the daemon does it.
    pub fn take(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.agent.handle(&now(), [input]);
        for effect in &effects {
            match effect {
                Effect::Record(record) => self.records.push(record.clone()),
                Effect::Send(id, message) => self.is_fit(*id, message),
                _ => {}
            }
        }
        self.agent.stored();
        effects
    }

    fn is_fit(&self, id: MessageId, message: &Outbound) {
        let Encoded { packet, .. } = self.cloud.dialect().encode(id, message).expect("what is sent has room");
        assert!(packet.payload.len() <= LARGEST);
        if *message != Outbound::FetchTwin {
            serde_json::from_slice::<serde_json::Value>(&packet.payload).expect("what is sent is JSON");
        }
    }

    /// A restart would know the same.
    pub fn is_on_disk(&self) {
        journal::is_read_again(&self.records);
        assert_eq!(&Durable::replay(&self.records), self.agent.durable());
    }
}
