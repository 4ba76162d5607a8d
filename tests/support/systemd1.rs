//! A systemd on a test's bus: units that say what the test wants, and do what they are told. The real one is asked by the
//! system tests.

#![allow(dead_code, reason = "each suite that takes this in needs another part of it")]

use std::collections::{BTreeMap, HashMap};

use tokio::sync::{mpsc, watch};
use zbus::zvariant::{ObjectPath, OwnedObjectPath, Value};
use zbus::{Connection, connection, fdo, interface};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit/";
const NO_PATH: &str = "/";

/// What a unit says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Says {
    pub(crate) load: &'static str,
    /// It is in memory.
    pub(crate) is_loaded: bool,
    pub(crate) active: &'static str,
    pub(crate) job: u32,
    pub(crate) collect: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) remains: bool,
    /// In microseconds.
    pub(crate) stops_within: u64,
    pub(crate) result: &'static str,
    /// `si_code` and status.
    pub(crate) exit: (i32, i32),
    pub(crate) said: String,
    /// What its next calls are answered with: an error, by its name. `lost`: by the bus, as if no answer had come.
    pub(crate) refusal: Option<&'static str>,
    pub(crate) starts: u8,
    /// Nothing has changed for days.
    pub(crate) is_old: bool,
    /// Its first name, if this is another one of it.
    pub(crate) alias_of: Option<&'static str>,
}

/// A job as it shall be, that does not run.
pub(crate) fn job() -> Says {
    Says {
        load: "loaded",
        is_loaded: false,
        active: "inactive",
        job: 0,
        collect: "inactive",
        kind: "oneshot",
        remains: true,
        stops_within: 90_000_000,
        result: "success",
        exit: (0, 0),
        said: String::new(),
        refusal: None,
        starts: 0,
        is_old: false,
        alias_of: None,
    }
}

/// Runs, or ran and is kept.
pub(crate) fn running() -> Says {
    Says { is_loaded: true, active: "activating", starts: 1, ..job() }
}

/// Ended in this way.
pub(crate) fn failed(result: &'static str, exit: (i32, i32)) -> Says {
    Says { is_loaded: true, active: "failed", result, exit, starts: 1, ..job() }
}

pub(crate) fn succeeded() -> Says {
    Says { is_loaded: true, active: "active", exit: (1, 0), starts: 1, ..job() }
}

type Units = watch::Sender<BTreeMap<String, Says>>;

/// A systemd, for as long as this value lives.
pub(crate) struct Systemd {
    connection: Connection,
    units: Units,
    /// Each call that does something: its verb, and the unit.
    pub(crate) calls: mpsc::Receiver<(&'static str, String)>,
}

#[derive(Clone)]
struct Manager {
    units: Units,
    calls: mpsc::Sender<(&'static str, String)>,
}

/// Properties of one unit.
struct Unit {
    units: Units,
    name: String,
}

/// And of one service.
struct Service {
    units: Units,
    name: String,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Fault {
    NoSuchUnit(String),
}

impl Systemd {
    /// With these units; others are `not-found`.
    pub(crate) async fn start(bus: &str, units: &[(&str, Says)]) -> Self {
        let units: BTreeMap<String, Says> =
            units.iter().map(|(name, says)| ((*name).to_owned(), says.clone())).collect();
        let (units, (calls, called)) = (watch::Sender::new(units), mpsc::channel(64));
        let manager = Manager { units: units.clone(), calls };
        let builder = connection::Builder::address(bus).expect("an address");
        let serving = builder.serve_at(PATH, manager).expect("a path");
        let connection = serving.build().await.expect("the bus answers");
        let systemd = Self { connection, units, calls: called };
        let names: Vec<String> = systemd.units.borrow().keys().cloned().collect();
        for name in names {
            let server = systemd.connection.object_server();
            let unit = Unit { units: systemd.units.clone(), name: name.clone() };
            server.at(path(&name), unit).await.expect("a path");
            let service = Service { units: systemd.units.clone(), name: name.clone() };
            server.at(path(&name), service).await.expect("a path");
        }
        systemd.connection.request_name(NAME).await.expect("a name");
        systemd
    }

    /// The unit says something else from now on, and everybody hears of it.
    pub(crate) async fn says(&self, name: &str, change: impl FnOnce(&mut Says)) {
        self.units.send_modify(|units| change(units.get_mut(name).expect("one of its units")));
        let changed = ("org.freedesktop.systemd1.Unit", HashMap::<&str, Value<'_>>::new(), vec!["ActiveState", "Job"]);
        let interface = "org.freedesktop.DBus.Properties";
        let sending = self.connection.emit_signal(None::<&str>, path(name), interface, "PropertiesChanged", &changed);
        sending.await.expect("sent");
    }

    /// And its job is over.
    pub(crate) async fn ends(&self, name: &str, job: &str, change: impl FnOnce(&mut Says)) {
        let removed = (1_u32, ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/1"), name, job);
        let interface = "org.freedesktop.systemd1.Manager";
        let sending = self.connection.emit_signal(None::<&str>, PATH, interface, "JobRemoved", &removed);
        sending.await.expect("sent");
        self.says(name, |says| {
            says.job = 0;
            change(says);
        })
        .await;
    }

    pub(crate) fn now(&self, name: &str) -> Says {
        self.units.borrow()[name].clone()
    }
}

fn path(name: &str) -> OwnedObjectPath {
    let escaped: String = name
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("_{byte:02x}") })
        .collect();
    OwnedObjectPath::try_from(format!("{UNITS}{escaped}")).expect("a path")
}

impl Manager {
    async fn told(&self, verb: &'static str, name: &str) -> fdo::Result<OwnedObjectPath> {
        self.calls.send((verb, name.to_owned())).await.expect("somebody listens");
        let refusal = self.units.borrow().get(name).and_then(|says| says.refusal);
        match refusal {
            Some("refused") => Err(fdo::Error::InteractiveAuthorizationRequired("not you".to_owned())),
            Some("denied") => Err(fdo::Error::AccessDenied("not you".to_owned())),
            Some("lost") => Err(fdo::Error::NoReply("it took too long".to_owned())),
            Some(_) => Err(fdo::Error::Failed("it is broken".to_owned())),
            None => Ok(OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/1").expect("a path")),
        }
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Says)) {
        self.units.send_modify(|units| units.get_mut(name).map_or((), change));
    }
}

#[allow(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    reason = "methods of an interface have a form of their own"
)]
#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        path(self.units.borrow().get(name).and_then(|says| says.alias_of).unwrap_or(name))
    }

    fn get_unit(&self, name: &str) -> Result<OwnedObjectPath, Fault> {
        let is_loaded = self.units.borrow().get(name).is_some_and(|says| says.is_loaded);
        if is_loaded { Ok(path(name)) } else { Err(Fault::NoSuchUnit(format!("Unit {name} not loaded."))) }
    }

    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> OwnedObjectPath {
        assert_eq!(pid, 0, "whoever asks");
        path("twinagent.service")
    }

    async fn start_unit(&self, name: &str, mode: &str) -> fdo::Result<OwnedObjectPath> {
        assert_eq!(mode, "fail");
        let job = self.told("start", name).await?;
        self.change(name, |says| {
            assert_eq!((says.active, says.job), ("inactive", 0), "one that is active would not be started");
            (says.is_loaded, says.active, says.starts) = (true, "activating", says.starts + 1);
        });
        Ok(job)
    }

    async fn stop_unit(&self, name: &str, mode: &str) -> fdo::Result<OwnedObjectPath> {
        assert_eq!(mode, "replace");
        let job = self.told("stop", name).await?;
        self.change(name, |says| {
            // What runs takes its time, and the test says when it is over.
            if says.active == "active" {
                (says.is_loaded, says.active) = (false, "inactive");
            } else {
                (says.active, says.job) = ("deactivating", 2);
            }
        });
        Ok(job)
    }

    async fn restart_unit(&self, name: &str, mode: &str) -> fdo::Result<OwnedObjectPath> {
        assert_eq!(mode, "replace");
        let job = self.told("restart", name).await?;
        self.change(name, |says| (says.is_loaded, says.job) = (true, 1));
        Ok(job)
    }

    async fn reset_failed_unit(&self, name: &str) -> fdo::Result<()> {
        self.told("reset-failed", name).await?;
        self.change(name, |says| (says.is_loaded, says.active) = (false, "inactive"));
        Ok(())
    }

    #[expect(clippy::type_complexity, reason = "as systemd spells it")]
    fn list_units_by_patterns(
        &self,
        states: Vec<String>,
        patterns: Vec<String>,
    ) -> Vec<(String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath)> {
        assert_eq!((states.as_slice(), patterns.as_slice()), (&[][..], &["twinagent-job-*.service".to_owned()][..]));
        let units = self.units.borrow();
        let loaded = units.iter().filter(|(name, says)| says.is_loaded && name.starts_with("twinagent-job-"));
        let none = || OwnedObjectPath::try_from(NO_PATH).expect("a path");
        loaded
            .map(|(name, says)| {
                let word = str::to_owned;
                let (load, active) = (word(says.load), word(says.active));
                (name.clone(), word(""), load, active, word(""), word(""), path(name), 0, word(""), none())
            })
            .collect()
    }
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn id(&self) -> String {
        self.name.clone()
    }

    #[zbus(property)]
    fn load_state(&self) -> &'static str {
        self.units.borrow()[&self.name].load
    }

    #[zbus(property)]
    fn active_state(&self) -> &'static str {
        self.units.borrow()[&self.name].active
    }

    #[zbus(property)]
    fn job(&self) -> (u32, OwnedObjectPath) {
        (self.units.borrow()[&self.name].job, OwnedObjectPath::try_from(NO_PATH).expect("a path"))
    }

    #[zbus(property)]
    fn collect_mode(&self) -> &'static str {
        self.units.borrow()[&self.name].collect
    }

    #[zbus(property)]
    fn state_change_timestamp_monotonic(&self) -> u64 {
        if self.units.borrow()[&self.name].is_old { 0 } else { u64::MAX }
    }

    #[zbus(property)]
    fn inactive_exit_timestamp_monotonic(&self) -> u64 {
        let units = self.units.borrow();
        let says = &units[&self.name];
        match (says.starts, says.is_old) {
            (0, _) => 0,
            (_, true) => 1,
            (_, false) => u64::MAX,
        }
    }

    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> Vec<u8> {
        vec![self.units.borrow()[&self.name].starts; 16]
    }
}

#[interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property, name = "Type")]
    fn kind(&self) -> &'static str {
        self.units.borrow()[&self.name].kind
    }

    #[zbus(property)]
    fn remain_after_exit(&self) -> bool {
        self.units.borrow()[&self.name].remains
    }

    #[zbus(property, name = "TimeoutStopUSec")]
    fn timeout_stop(&self) -> u64 {
        self.units.borrow()[&self.name].stops_within
    }

    #[zbus(property)]
    fn result(&self) -> &'static str {
        self.units.borrow()[&self.name].result
    }

    #[zbus(property)]
    fn exec_main_code(&self) -> i32 {
        self.units.borrow()[&self.name].exit.0
    }

    #[zbus(property)]
    fn exec_main_status(&self) -> i32 {
        self.units.borrow()[&self.name].exit.1
    }

    #[zbus(property)]
    fn status_text(&self) -> String {
        self.units.borrow()[&self.name].said.clone()
    }
}
