//! The methods that are the model's own: their names, what the model must know of them, and what the harmless ones do.
//!
//! `rebootDevice` is a command like any other to the ledger; its life is in `reboot`. None of their names can be anybody
//! else's, whether the method is to be had or not.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::agent::{Agent, Effect};
use super::command::{Class, CommandId, DeviceId, Key, Method, MethodSpec, Origin, Outcome, Status};
use super::now::Now;
use super::patch::without_nulls;
use super::payload::{Member, PayloadRules, Shape};
use super::reboot::{CANCEL, REBOOT};

/// The method that stops a command, or takes one back that waits.
pub const CANCEL_COMMAND: &str = "cancelCommand";

/// The methods that a device has only if its operator says so (`enable` under `[methods]`), the model's own and those that
/// have handlers.
pub const ENABLED: [&str; 4] = ["getLogs", RELOAD_CONFIG, "restartService", "shutdown"];

const RELOAD_CONFIG: &str = "reloadConfig";

/// Of all methods together, so much is told in one answer; of more than that, only the names.
const LIST: usize = 64 * 1_024;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    RebootDevice,
    CancelReboot,
    CancelCommand,
    GetStatus,
    ListMethods,
    RefreshState,
    ReloadConfig,
}

impl Own {
    const ALL: [Self; 7] = [
        Self::RebootDevice,
        Self::CancelReboot,
        Self::CancelCommand,
        Self::GetStatus,
        Self::ListMethods,
        Self::RefreshState,
        Self::ReloadConfig,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RebootDevice => REBOOT,
            Self::CancelReboot => CANCEL,
            Self::CancelCommand => CANCEL_COMMAND,
            Self::GetStatus => "getStatus",
            Self::ListMethods => "listMethods",
            Self::RefreshState => "refreshState",
            Self::ReloadConfig => RELOAD_CONFIG,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::RebootDevice => "Reboots the machine",
            Self::CancelReboot => "Takes back a reboot that waits",
            Self::CancelCommand => "Stops a command, or takes it back while it waits",
            Self::GetStatus => "Tells how this device stands",
            Self::ListMethods => "Lists the methods that this device answers",
            Self::RefreshState => "Sends the reported document again",
            Self::ReloadConfig => "Reads the configuration again",
        }
    }

    /// The one of this name.
    pub(super) fn of(method: &Method) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == method.as_str())
    }

    /// Whether a device has it only if its operator says so.
    fn must_be_enabled(self) -> bool {
        ENABLED.contains(&self.name())
    }

    fn spec(self) -> MethodSpec {
        let is_reboot = self == Self::RebootDevice;
        let id = || Member { required: true, shape: Shape::Text { longest: 64, one_of: Vec::new() } };
        let members = match self {
            Self::CancelCommand => [("commandId".to_owned(), id())].into(),
            _ => std::collections::BTreeMap::new(),
        };
        MethodSpec {
            harmless: !is_reboot,
            // A cancellation never waits for a handler: those that run are what it is about.
            class: if is_reboot { Class::Exclusive } else { Class::Parallel(1) },
            // They have no handler that could run long or say much.
            time_limit: Duration::MAX,
            output_limit: usize::MAX,
            origin: Origin::Agent,
            description: self.description().to_owned(),
            // A reboot's depend on each other, so it reads them by itself.
            payload: (!is_reboot).then_some(PayloadRules { members, others: false }),
            ..MethodSpec::new(Method::parse(self.name()).expect("the names of our own methods are method names"))
        }
    }
}

/// The names of all of them, to be had or not.
pub fn own_names() -> impl Iterator<Item = &'static str> {
    Own::ALL.into_iter().map(Own::name)
}

/// Whether a method of this name must be enabled.
pub(super) fn is_for_the_operator_to_enable(method: &Method) -> bool {
    ENABLED.contains(&method.as_str())
}

/// Whether nobody else may have this name, whether its method is to be had or not.
pub(super) fn is_reserved(method: &Method) -> bool {
    Own::of(method).is_some() || is_for_the_operator_to_enable(method)
}

/// What the model must know of its own methods, as far as they are to be had.
pub(super) fn own_methods(enabled: &[Method]) -> impl Iterator<Item = MethodSpec> {
    let is_had = |spec: &MethodSpec, own: Own| !own.must_be_enabled() || enabled.contains(&spec.name);
    Own::ALL
        .into_iter()
        .map(|own| (own.spec(), own))
        .filter(move |(spec, own)| is_had(spec, *own))
        .map(|(spec, _)| spec)
}

impl Agent {
    /// Does what a harmless method of the model's own asks.
    pub(super) fn perform_own(
        &mut self,
        own: Own,
        target: &DeviceId,
        payload: &Value,
        now: &Now,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        match own {
            Own::RebootDevice | Own::CancelReboot => self.cancel_reboot(now, out),
            Own::CancelCommand => match payload["commandId"].as_str().and_then(|id| CommandId::parse(id).ok()) {
                Some(id) => self.cancel_command(&Key { target: target.clone(), id }, now, out),
                None => Outcome::failed(Status::CONFLICT, "no command can have this id"),
            },
            Own::GetStatus => {
                let mut status = self.status(now);
                if let Some(members) = status.as_object_mut() {
                    without_nulls(members);
                }
                Outcome::new(Status::DONE, status)
            }
            Own::ListMethods => Outcome::new(Status::DONE, self.method_list()),
            Own::RefreshState => {
                self.outbox.refresh();
                Outcome::new(Status::DONE, json!({ "refreshing": true }))
            }
            Own::ReloadConfig => {
                self.reload(now, out);
                Outcome::new(Status::DONE, json!({ "reloading": true }))
            }
        }
    }

    /// Has the configuration read again. Whoever asks for it may have mended what kept the agent from its cloud, or a handler.
    pub(super) fn reload(&mut self, now: &Now, out: &mut Vec<Effect>) {
        out.push(Effect::Reload);
        self.hurry(now);
    }

    /// The methods that are to be had, and where each comes from.
    pub(super) fn method_list(&self) -> Value {
        let whole = json!({ "methods": self.methods.values().map(listed).collect::<Vec<_>>() });
        if whole.to_string().len() <= LIST {
            return whole;
        }
        let names = self
            .methods
            .values()
            .map(|spec| json!({ "name": spec.name, "harmless": spec.harmless, "from": from(spec) }));
        json!({ "methods": names.collect::<Vec<_>>(), "cut": true })
    }
}

/// The outcome of one of them in few words, for where the whole does not fit and its beginning would be of no use: of the
/// methods the names, of the status what it comes to. As much as `fits`.
pub(super) fn in_short(method: &Method, outcome: &Outcome, fits: impl Fn(&Value) -> bool) -> Option<Value> {
    let Outcome { status: Status::DONE, payload, .. } = outcome else { return None };
    match Own::of(method)? {
        Own::ListMethods => {
            let names: Vec<&Value> = payload["methods"].as_array()?.iter().map(|listed| &listed["name"]).collect();
            let short = |count: usize| match names.len() - count {
                0 => json!({ "methods": names }),
                more => json!({ "methods": names[..count], "more": more }),
            };
            (0..=names.len()).rev().map(short).find(fits)
        }
        Own::GetStatus => {
            let mut short = json!({});
            for name in ["state", "sentence", "version", "startTime", "journal"] {
                put_if_it_fits(&mut short, name, payload[name].clone(), &fits);
            }
            let codes: Vec<&Value> = payload["problems"].as_array()?.iter().map(|problem| &problem["code"]).collect();
            put_if_it_fits(&mut short, "problems", json!(codes), &fits);
            let mut commands = payload["commands"].clone();
            commands.as_object_mut()?.remove("runs");
            put_if_it_fits(&mut short, "commands", commands, &fits);
            Some(short)
        }
        _ => None,
    }
}

fn put_if_it_fits(short: &mut Value, name: &str, value: Value, fits: impl Fn(&Value) -> bool) {
    let mut longer = short.clone();
    longer[name] = value;
    if fits(&longer) {
        *short = longer;
    }
}

/// One of the methods, in short.
fn listed(spec: &MethodSpec) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("name", json!(spec.name));
    put("harmless", json!(spec.harmless));
    put("from", json!(from(spec)));
    if !spec.description.is_empty() {
        put("description", json!(spec.description));
    }
    match spec.class {
        Class::Exclusive => put("class", json!("exclusive")),
        Class::Serial(queue) => {
            put("queue", json!(queue));
            put("class", json!("serial"))
        }
        Class::Parallel(most) => {
            put("parallel", json!(most));
            put("class", json!("parallel"))
        }
    };
    if spec.time_limit < Duration::MAX {
        put("timeLimitSeconds", json!(spec.time_limit.as_secs()));
    }
    if let Some(rules) = &spec.payload {
        put("payload", rules.document());
    }
    if let Some(member) = &spec.desired {
        put("desired", json!(member));
    }
    Value::Object(members)
}

fn from(spec: &MethodSpec) -> &str {
    match &spec.origin {
        Origin::Agent => "agent",
        Origin::BuiltIn => "built-in",
        Origin::File(path) => path,
        Origin::Program => "program",
    }
}
