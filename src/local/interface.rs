//! The interface `io.twinagent.Agent`: its methods as questions, refusals as its errors, and its description.
//!
//! Parsed here, once: behind this file there are only questions that can be asked. Who may ask them is judged where the
//! caller is known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::serving;
use crate::model::ask::{Question, Refusal};
use crate::model::command::{CommandId, Method};
use crate::model::telemetry::Subfolder;
use crate::varlink::protocol::{Answer, Call};

pub const AGENT: &str = "io.twinagent.Agent";
const SERVICE: &str = "org.varlink.service";

/// What `GetInterfaceDescription` returns.
pub const DESCRIPTION: &str = include_str!("io.twinagent.Agent.varlink");
/// From varlink.org/Service, which every service implements.
const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// The largest telemetry message: what the clouds take of one message (Cloud IoT Core and IoT Hub: 256 KiB).
pub const LARGEST_TELEMETRY: usize = 256 * 1024;

/// What a call wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Answered at once and to everybody: this is the answer.
    Introspection(Map<String, Value>),
    Ask(Question),
}

/// An error of ours or of Varlink itself, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    name: String,
    parameters: Map<String, Value>,
}

/// Finds out what a call wants.
pub fn read(call: Call) -> Result<Wish, Complaint> {
    let Some((interface, name)) = call.method.rsplit_once('.') else {
        return Err(Complaint::service("InterfaceNotFound", "interface", &call.method));
    };
    let mut given = Given(call.parameters.unwrap_or_default());
    let wish = match (interface, name) {
        _ if call.upgrade => return Err(Complaint::service("MethodNotImplemented", "method", &call.method)),
        (SERVICE, "GetInfo") => Wish::Introspection(info()),
        (SERVICE, "GetInterfaceDescription") => Wish::Introspection(description(&given.required("interface")?)?),
        (AGENT, name) => match question(name, call.more, &mut given)? {
            Some(question) => Wish::Ask(question),
            None => return Err(Complaint::service("MethodNotFound", "method", &call.method)),
        },
        (SERVICE, _) => return Err(Complaint::service("MethodNotFound", "method", &call.method)),
        _ => return Err(Complaint::service("InterfaceNotFound", "interface", interface)),
    };
    given.nothing_else()?;
    Ok(wish)
}

/// The question that a method of ours asks. `None`: there is no such method.
fn question(name: &str, follow: bool, given: &mut Given) -> Result<Option<Question>, Complaint> {
    Ok(Some(match name {
        "GetStatus" => Question::Status { follow },
        "GetKey" => Question::Key,
        "ListMethods" => Question::Methods,
        "Invoke" => Question::Invoke {
            method: Method::parse(&given.required("method")?).map_err(|_| Complaint::parameter("method"))?,
            payload: given.0.remove("payload").unwrap_or_default(),
            id: given.id()?,
            follow,
        },
        "Cancel" => Question::Cancel { id: given.id()?.ok_or_else(|| Complaint::parameter("id"))? },
        "GetHistory" => Question::History { id: given.id()? },
        "GetTwin" => Question::Twin,
        "Report" => match given.0.remove("patch") {
            Some(Value::Object(patch)) => Question::Report { patch },
            _ => return Err(Complaint::parameter("patch")),
        },
        "SendTelemetry" => telemetry(given)?,
        "FollowDesired" => Question::Desired { follow },
        "ShowGuard" => Question::Guard { reset: false },
        "ResetGuard" => Question::Guard { reset: true },
        "Reload" => Question::Reload,
        "Serve" => serving::serve(follow, given)?,
        "Finish" => serving::finish(given)?,
        "Progress" => serving::progress(given)?,
        _ => return Ok(None),
    }))
}

fn telemetry(given: &mut Given) -> Result<Question, Complaint> {
    let subfolder = Subfolder::parse(&given.text("subfolder")?.unwrap_or_default());
    let subfolder = subfolder.map_err(|_| Complaint::parameter("subfolder"))?;
    let payload = match (given.text("text")?, given.text("data")?) {
        (Some(text), None) => Bytes::from(text),
        (None, Some(data)) => STANDARD.decode(data).map_err(|_| Complaint::parameter("data"))?.into(),
        (None, None) => return Err(Complaint::parameter("text")),
        (Some(_), Some(_)) => return Err(Complaint::parameter("data")),
    };
    if payload.len() > LARGEST_TELEMETRY {
        return Err(Refusal::TooLarge { limit: LARGEST_TELEMETRY }.into());
    }
    Ok(Question::Telemetry { subfolder, payload })
}

/// What `GetInfo` answers.
fn info() -> Map<String, Value> {
    members(json!({
        "vendor": "twinagent",
        "product": "twinagent",
        "version": env!("CARGO_PKG_VERSION"),
        "url": "file:///usr/share/doc/twinagent/",
        "interfaces": [SERVICE, AGENT],
    }))
}

fn description(interface: &str) -> Result<Map<String, Value>, Complaint> {
    let text = match interface {
        AGENT => DESCRIPTION,
        SERVICE => SERVICE_DESCRIPTION,
        _ => return Err(Complaint::service("InterfaceNotFound", "interface", interface)),
    };
    Ok(members(json!({ "description": text })))
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The parameters that were given and not taken yet. `null` is the same as nothing: all of ours are nullable or needed.
pub(super) struct Given(Map<String, Value>);

impl Given {
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Complaint> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Complaint::parameter(name)),
        }
    }

    pub(super) fn required(&mut self, name: &str) -> Result<String, Complaint> {
        self.text(name)?.ok_or_else(|| Complaint::parameter(name))
    }

    fn id(&mut self) -> Result<Option<CommandId>, Complaint> {
        let id = self.text("id")?;
        id.map(|id| CommandId::parse(&id).map_err(|_| Complaint::parameter("id"))).transpose()
    }

    /// A parameter that the method does not have was meant to have an effect, so it must not be passed over.
    fn nothing_else(&self) -> Result<(), Complaint> {
        self.0.keys().next().map_or(Ok(()), |name| Err(Complaint::parameter(name)))
    }
}

impl Complaint {
    fn service(error: &str, member: &str, value: &str) -> Self {
        Self { name: format!("{SERVICE}.{error}"), parameters: members(json!({ member: value })) }
    }

    fn ours(error: &str, parameters: Value) -> Self {
        Self { name: format!("{AGENT}.{error}"), parameters: members(parameters) }
    }

    pub(super) fn expected_more() -> Self {
        Self { name: format!("{SERVICE}.ExpectedMore"), parameters: Map::new() }
    }

    pub(super) fn parameter(name: &str) -> Self {
        Self::service("InvalidParameter", "parameter", name)
    }

    pub(super) fn not_permitted(hint: &str) -> Self {
        Self::ours("NotPermitted", json!({ "hint": hint }))
    }

    pub(super) fn not_a_call(why: &str) -> Self {
        Self::ours("NotACall", json!({ "why": why }))
    }

    pub(super) fn too_many_connections(limit: usize) -> Self {
        Self::ours("TooManyConnections", json!({ "limit": limit }))
    }

    /// The name of the error, with its interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn answer(self) -> Answer {
        Answer { error: Some(self.name), parameters: self.parameters, continues: false }
    }
}

impl From<Refusal> for Complaint {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownCommand => Self::ours("UnknownCommand", json!({})),
            Refusal::OwnMember { member } => Self::ours("OwnMember", json!({ "member": member })),
            Refusal::Unfit { member, rule } => Self::ours("Unfit", json!({ "member": member, "rule": rule })),
            Refusal::TooLarge { limit } => Self::ours("TooLarge", json!({ "limit": limit })),
            Refusal::MethodTaken { method } => Self::ours("MethodTaken", json!({ "method": method })),
            Refusal::UnknownRun => Self::ours("UnknownRun", json!({})),
            Refusal::CannotNow { why } => Self::ours("CannotNow", json!({ "why": why })),
        }
    }
}
