//! What the tests of the model start from: moments, settings and requests.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use twinagent::model::agent::Settings;
use twinagent::model::cloud::{CloudLimits, DocumentRules, Reporting, Road};
use twinagent::model::command::{Class, CommandId, DeviceId, Identity, Method, MethodSpec, Request};
use twinagent::model::connection::Terms;
use twinagent::model::now::{BootInstant, Clock, Now, Timestamp};
use twinagent::model::reboot::window::Windows;
use twinagent::model::reboot::{Mode, Policy, TooSoon};
use twinagent::model::twin::About;

/// When all begins.
static EPOCH: LazyLock<Timestamp> = LazyLock::new(|| "2026-11-22T00:00:00Z".parse().expect("a time"));

pub(crate) fn moment(wall: Duration, kernel_start: Duration, boot: u128) -> Now {
    Now {
        wall: EPOCH.saturating_add(wall),
        boot: BootInstant(wall.saturating_sub(kernel_start)),
        boot_id: format!("00000000-0000-0000-0000-{boot:012x}").parse().expect("a boot id"),
        clock: Clock::Trusted,
    }
}

/// What an Azure IoT Hub allows.
pub(crate) fn hub() -> CloudLimits {
    CloudLimits {
        reported_interval: Duration::from_secs(1),
        answers: Road::Direct,
        reporting: Reporting::Patches,
        document: DocumentRules { bytes: 32 * 1_024, depth: 10, string: 4 * 1_024, key: 1_024, strict: true },
    }
}

/// What a Cloud IoT Core allows, with answers on this road.
fn iot_core(road: Road) -> CloudLimits {
    CloudLimits {
        reported_interval: Duration::from_secs(1),
        answers: road,
        reporting: Reporting::Whole,
        document: DocumentRules::of_size(64 * 1_024),
    }
}

/// For the cloud that has this road for answers.
pub(crate) fn settings(road: Road, reboot: Mode) -> Settings {
    let method = |name: &str, harmless, class| MethodSpec {
        harmless,
        class,
        time_limit: Duration::from_secs(60),
        output_limit: 65_536,
        ..MethodSpec::new(Method::parse(name).expect("a method name"))
    };
    Settings {
        cloud: Ok(if road == Road::Direct { hub() } else { iot_core(road) }),
        terms: Terms {
            lease: None,
            backoff_max: Duration::from_secs(5),
            backoff_max_refused: Duration::from_secs(5),
            provisioned: false,
        },
        clock_wait: Duration::ZERO,
        reboot: Policy {
            mode: reboot,
            min_interval: Duration::from_secs(20),
            min_uptime: Duration::from_secs(10),
            max_reboots: 3,
            per: Duration::from_secs(600),
            healthy: Duration::from_secs(60),
            too_soon: TooSoon::Defer,
            grace: Duration::from_secs(5),
            drain: Duration::from_secs(60),
            inhibitor_wait: Duration::from_secs(120),
            windows: Windows::default(),
            allow_force: false,
        },
        volatile: None,
        methods: vec![
            method("echo", true, Class::Parallel(64)),
            method("count", false, Class::Parallel(64)),
            method("queue", false, Class::Serial(4)),
        ],
        disabled: vec![],
        enabled: vec![],
        aliases: BTreeMap::new(),
        heartbeat: Duration::from_secs(24 * 60 * 60),
        about: About {
            version: "0.0.0",
            started: "2026-11-22T00:00:00Z".parse().expect("a time"),
            device: DeviceId::parse("gw-1").ok(),
            cloud: None,
            config_hash: None,
            os: None,
        },
    }
}

pub(crate) fn request(method: &str, id: Option<&str>, payload: Value) -> Request {
    Request {
        identity: id.map_or(Identity::Derived, |id| Identity::Given(CommandId::parse(id).expect("an id"))),
        target: DeviceId::parse("gw-1").expect("a device id"),
        method: Method::parse(method).expect("a method name"),
        payload,
        reply_to: None,
        expires: None,
    }
}
