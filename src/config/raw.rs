//! What a configuration may say: every key, its default, its bounds. Nothing else in the program has a default.
//!
//! `packaging/twinagent.toml` explains the same keys to people, and a test holds the two together.

mod iothub;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Reader;
use super::specifier::{self, Specifiers};
use super::{Answers, Auth, Cloud, Commands, Config, IotCore, Local, Methods, Mode, Proxy, Reboot, Report, Session};
use super::{own_methods, rules, zone};
use crate::model::command::{DeviceId, Method};
use crate::model::reboot::TooSoon;
use crate::model::reboot::window::Window;
use crate::model::unit_name::UnitName;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// IoT Hub ends a session after at most 1767 s of silence and one and a half keep-alives, which is 1177 s
/// (learn.microsoft.com, "Communicate with an IoT hub using MQTT"); Cloud IoT Core after 20 minutes.
const KEEP_ALIVE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(1177);
/// Cloud IoT Core takes no token for longer than 24 hours (its page on JWTs). Below a minute is for tests.
const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(5)..=DAY;
/// Each of them is looked at whenever a reboot waits; a week has room for no more that make sense.
const MOST_WINDOWS: usize = 32;
/// Their names are part of what is kept, and who lists more means all of them.
const MOST_LOG_UNITS: usize = 32;

#[derive(Clone, Copy)]
enum Kind {
    IotCore,
    IotHub,
    NotYet,
}

pub(super) fn read(from: &mut Reader, specifiers: &Specifiers) -> Config {
    let kind =
        from.choice("cloud.kind", &[("iotcore", Kind::IotCore), ("iothub", Kind::IotHub), ("mqtt", Kind::NotYet)]);
    if matches!(kind, Some(Kind::NotYet)) {
        from.fault("cloud.kind", "this cloud is not built yet in this version; \"iotcore\" and \"iothub\" are");
    }
    let mut device = device(from, specifiers);
    let iotcore = iotcore(from, matches!(kind, Some(Kind::IotCore)));
    let iothub = iothub::read(from, matches!(kind, Some(Kind::IotHub)), &mut device);
    let cloud = match kind {
        Some(Kind::IotCore) => {
            fits(from, device.as_ref(), |id| rules::fits_iotcore(id).map_err(str::to_owned));
            iotcore.map(Cloud::IotCore)
        }
        Some(Kind::IotHub) => {
            // A connection string that could not be read would have named it.
            if from.is_kept || device.is_some() || from.place("cloud.iothub.connection_string_file").is_none() {
                fits(from, device.as_ref(), |id| rules::hub_device(id.as_str()).map(drop));
            }
            iothub.map(Cloud::IotHub)
        }
        Some(Kind::NotYet) | None => None,
    };
    Config {
        device,
        cloud,
        auth: Auth { lifetime: from.duration("auth.lifetime", HOUR, &LIFETIME) },
        session: session(from),
        reboot: reboot(from),
        methods: methods(from),
        commands: commands(from),
        report: Report { heartbeat: from.duration("report.heartbeat", DAY, &(MINUTE..=30 * DAY)) },
        local: Local {
            read_group: from.parsed("local.read_group", rules::group).unwrap_or_else(|| Some("adm".to_owned())),
            act_group: from.parsed("local.act_group", rules::group).unwrap_or(None),
        },
    }
}

/// The rule that the chosen cloud has for ids.
fn fits(from: &mut Reader, device: Option<&DeviceId>, rule: impl FnOnce(&DeviceId) -> Result<(), String>) {
    match device {
        Some(id) => {
            if let Err(why) = rule(id) {
                from.fault("device.id", format_args!("\"{id}\" is {why}"));
            }
        }
        None if from.place("device.id").is_none() => from.missing("device.id", "cloud.kind"),
        None => {}
    }
}

/// The id, with its specifiers filled in. A file that it is read from counts as named even where it cannot be read.
fn device(from: &mut Reader, specifiers: &Specifiers) -> Option<DeviceId> {
    let mut file = None;
    let id = from.parsed("device.id", |text| {
        file = specifier::file(text);
        specifier::expand(text, specifiers).and_then(|id| rules::device(&id))
    });
    from.files.extend(file);
    id
}

/// A name that no method has may be one of another version, so it is told like an unknown key.
fn methods(from: &mut Reader) -> Methods {
    let enable: BTreeSet<Method> = from.list("methods.enable", Method::parse).into_iter().collect();
    for text in enable.iter().filter_map(own_methods::not_to_be_enabled) {
        from.unknown("methods.enable", &text);
    }
    Methods {
        enable,
        disable: from.list("methods.disable", Method::parse).into_iter().collect(),
        log_units: log_units(from),
    }
}

pub(super) fn log_units(from: &mut Reader) -> BTreeSet<UnitName> {
    let units: BTreeSet<UnitName> = from.list("methods.log_units", UnitName::parse).into_iter().collect();
    if units.len() > MOST_LOG_UNITS {
        from.fault("methods.log_units", format_args!("holds more than {MOST_LOG_UNITS} units"));
    }
    units
}

/// A name that leads to a name that leads on could lead in a circle, and nobody needs one.
fn commands(from: &mut Reader) -> Commands {
    let alias = from.table("commands.alias", Method::parse, Method::parse);
    for (name, method) in &alias {
        if alias.contains_key(method) {
            from.fault_in("commands.alias", name.as_str(), format_args!("\"{method}\" is an alias itself"));
        }
    }
    let default_method = from.parsed("commands.default_method", Method::parse);
    let default_method = default_method.map(|method| alias.get(&method).cloned().unwrap_or(method));
    Commands { alias, default_method }
}

/// Reads `[cloud.iotcore]` even where it is not wanted, so that a mistake in it shows before it counts.
fn iotcore(from: &mut Reader, wanted: bool) -> Option<IotCore> {
    let required = |from: &mut Reader, key: &'static str, parse: fn(&str) -> Result<String, &'static str>| {
        let value = from.parsed(key, parse);
        if wanted && from.place(key).is_none() {
            from.missing(key, "cloud.kind");
        }
        value
    };
    let host = required(from, "cloud.iotcore.host", rules::host);
    let project_id = required(from, "cloud.iotcore.project_id", rules::segment);
    let region = required(from, "cloud.iotcore.region", rules::segment);
    let registry_id = required(from, "cloud.iotcore.registry_id", rules::segment);
    let port = from.port("cloud.iotcore.port", 8883);
    let ca_file = from.parsed("cloud.iotcore.ca_file", rules::path);
    from.files.extend(ca_file.clone());
    let tls = from.flag("cloud.iotcore.tls", true);
    let answers = from
        .choice("cloud.iotcore.answers", &[("state", Answers::State), ("events", Answers::Events)])
        .unwrap_or(Answers::State);
    let clean_session = from.flag("cloud.iotcore.clean_session", true);

    let host = host?;
    if !tls && !rules::is_loopback(&host) {
        from.fault(
            "cloud.iotcore.tls",
            format_args!("false is for this machine only (localhost, 127.0.0.1, ::1), and \"{host}\" is not it"),
        );
    }
    Some(IotCore {
        host,
        port,
        project_id: project_id?,
        region: region?,
        registry_id: registry_id?,
        ca_file,
        tls,
        answers,
        clean_session,
    })
}

fn session(from: &mut Reader) -> Session {
    let keep_alive = from.duration("session.keep_alive", MINUTE, &KEEP_ALIVE);
    if keep_alive.subsec_nanos() != 0 {
        from.fault("session.keep_alive", "whole seconds are expected; MQTT knows no others");
    }
    Session {
        keep_alive,
        connect_timeout: from.duration("session.connect_timeout", 30 * SECOND, &(SECOND..=10 * MINUTE)),
        backoff_max: from.duration("session.backoff_max", 5 * MINUTE, &(SECOND..=DAY)),
        backoff_max_refused: from.duration("session.backoff_max_refused", 15 * MINUTE, &(SECOND..=DAY)),
        clock_wait: from.duration("session.clock_wait", 2 * MINUTE, &(Duration::ZERO..=HOUR)),
        proxy: proxy(from),
    }
}

fn proxy(from: &mut Reader) -> Option<Proxy> {
    let url = from.text("session.proxy");
    let password_file = from.parsed("session.proxy_password_file", rules::path);
    from.files.extend(password_file.clone());
    if password_file.is_some() && from.place("session.proxy").is_none() {
        from.missing("session.proxy", "session.proxy_password_file");
    }
    let proxy = match Proxy::parse(&url.filter(|url| !url.is_empty())?) {
        Ok(proxy) => proxy,
        Err(why) => {
            // Without the text: there may be a password in it.
            from.fault("session.proxy", format_args!("is {why}"));
            return None;
        }
    };
    if password_file.is_some() && proxy.user.is_none() {
        from.fault("session.proxy_password_file", "is for a user, and `proxy` names none: http://user@host:port");
    }
    Some(Proxy { password_file, ..proxy })
}

fn reboot(from: &mut Reader) -> Reboot {
    let modes =
        [("auto", Mode::Auto), ("logind", Mode::Logind), ("helper", Mode::Helper), ("simulate", Mode::Simulate)];
    Reboot {
        mode: from.choice("reboot.mode", &modes).unwrap_or(Mode::Auto),
        simulate_for: from.duration("reboot.simulate_for", 20 * SECOND, &(Duration::from_millis(100)..=HOUR)),
        min_interval: from.duration("reboot.min_interval", 5 * MINUTE, &(Duration::ZERO..=30 * DAY)),
        min_uptime: from.duration("reboot.min_uptime", 2 * MINUTE, &(Duration::ZERO..=DAY)),
        max_reboots: from.number("reboot.max_reboots", 3, &(1..=20)),
        per: from.duration("reboot.per", HOUR, &(MINUTE..=7 * DAY)),
        healthy: from.duration("reboot.healthy", 10 * MINUTE, &(10 * SECOND..=DAY)),
        too_soon: from
            .choice("reboot.too_soon", &[("defer", TooSoon::Defer), ("refuse", TooSoon::Refuse)])
            .unwrap_or(TooSoon::Defer),
        grace: from.duration("reboot.grace", 5 * SECOND, &(Duration::ZERO..=HOUR)),
        drain: from.duration("reboot.drain", MINUTE, &(Duration::ZERO..=HOUR)),
        inhibitor_wait: from.duration("reboot.inhibitor_wait", 10 * MINUTE, &(Duration::ZERO..=DAY)),
        windows: windows(from),
        spread: from.duration("reboot.spread", Duration::ZERO, &(Duration::ZERO..=DAY)),
        allow_force: from.flag("reboot.allow_force", false),
    }
}

/// The windows. The rules of their zones count as files that are named, there or not.
fn windows(from: &mut Reader) -> Vec<Window> {
    let files = RefCell::new(Vec::new());
    let windows = from.list("reboot.windows", |text| {
        Window::parse(text, |name| {
            files.borrow_mut().extend(zone::file(name));
            zone::read(name)
        })
    });
    from.files.extend(files.into_inner());
    if windows.len() > MOST_WINDOWS {
        from.fault("reboot.windows", format_args!("holds more than {MOST_WINDOWS} windows"));
    }
    windows
}
