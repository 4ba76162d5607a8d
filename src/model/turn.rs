//! The words of one turn: what can happen, what can be ordered, and what the operator decided.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ask::{CallerId, Question, Reply};
use super::cloud::{CloudLimits, Inbound, Outbound};
use super::command::{Command, CommandId, Method, MethodSpec, Outcome, Status};
use super::connection::Terms;
use super::device_key::{DeviceKey, KeySlot};
use super::problems::Code;
use super::reboot::Policy;
use super::reboot::facts::Facts;
use super::reboot::plan::Plan;
use super::record::Record;
use super::runs::RunId;
use super::twin::About;
use super::wire::{Delivery, Handshake, MessageId, Reason};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The daemon has started; the first input of all. `left_clean`: whether the machine had said that it would shut down
    /// when the daemon was last heard of, if that is known.
    Begin {
        left_clean: Option<bool>,
    },
    /// The session stands. Whether the broker had kept it makes no difference: what is due is sent in either case.
    /// `tls`: how TLS was agreed on, if there is any.
    Online {
        session_kept: bool,
        tls: Option<Handshake>,
    },
    Offline(Reason),
    /// The stream of the next connection is open, or why it is not.
    Prepared(Result<(), Reason>),
    /// Addresses or routes of this machine have changed.
    NetworkChanged,
    /// The wall clock was set: by so many microseconds, ahead if positive.
    ClockStepped {
        by: i64,
    },
    Cloud(Inbound, Delivery),
    /// The cloud has acknowledged a message.
    Settled(MessageId),
    /// A message was not sent, and never will be: the cloud would not take it. Why, for people.
    Unsent(MessageId, String),
    /// A handler has ended.
    Finished(RunId, Outcome),
    /// A handler says how its run goes, in a line for people.
    Progress(RunId, String),
    /// What the machine says to [`Effect::Probe`].
    Probed(Facts),
    /// A batch could not be written; none of its effects was performed. `why` is for people.
    JournalFailed {
        why: String,
        held: Vec<Effect>,
    },
    /// The journal was rewritten from `Agent::durable` and can be written again.
    JournalHealed,
    /// The daemon was told to stop.
    Stop,
    /// The machine shuts down and waits for [`Effect::LetGo`], though not for long; false: it does not, after all.
    ShuttingDown(bool),
    /// A local caller asks something.
    Asked(Question, CallerId),
    /// A local caller is gone.
    Gone(CallerId),
    /// The edge has found something wrong, or right again.
    Problem {
        code: Code,
        text: Option<String>,
    },
    /// What was found when the device's key was looked for.
    Key(DeviceKey),
    /// What the operator decided has changed. `anew`: and with it what a login says.
    Reloaded {
        settings: Box<Settings>,
        anew: bool,
    },
    /// The next try may go better than the last, to connect or to apply what is desired: another key, or an operator who says so.
    Hurry,
    /// What is said of the machine's reboot that this command asked for: it is on its way, or why it is not. Proves nothing.
    RebootAnswered {
        id: CommandId,
        answer: Result<(), String>,
    },
    /// Time has passed.
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To be on disk before anything after it is done, if it [must be](Record::must_be_synced).
    Record(Record),
    /// PUBACK.
    Ack(Delivery),
    /// Run the handler.
    Start(RunId, Command),
    /// The daemon stopped while this ran: ask the handler what became of it.
    Resume(RunId, Command),
    /// Stop the handler. Its end is told like any other.
    Cancel(RunId),
    /// Hand a command to the local program that serves its method: like [`Effect::Start`], it may be done only once the
    /// records before it are on disk.
    Hand(CallerId, RunId, Reply),
    Send(MessageId, Outbound),
    /// Open the stream of the next connection, beside the one that stands; the answer is [`Input::Prepared`].
    Prepare,
    /// Connect, over the stream that was prepared if there is one.
    Connect(Attempt),
    Disconnect,
    /// Nothing to be done, but somebody may want to know: a connection ended, or never came to be, and the next try is made
    /// after `wait` if nothing happens before.
    Ended {
        reason: Reason,
        wait: Duration,
    },
    /// Find out at once whether the connection is still alive.
    CheckLink,
    /// Ask the machine whether it may be rebooted, and by whom; the answer is [`Input::Probed`].
    Probe,
    /// Nothing to be done, but somebody may want to know: a command was not taken on.
    Refused {
        id: CommandId,
        method: Method,
        status: Status,
        why: String,
    },
    /// Reboot the machine.
    Reboot(Plan),
    /// The shutdown that has begun may go on.
    LetGo,
    /// Answer a local caller.
    Reply(CallerId, Reply),
    /// Read the configuration again.
    Reload,
    /// A sentence for people about the state of things.
    Status(String),
    /// End the program.
    Exit,
}

/// How a connection is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    pub key: KeySlot,
    /// What the broker keeps for us is dropped, whatever the configuration says of sessions.
    pub drop_session: bool,
    /// Ask anew which hub this device belongs to, where that is not configured.
    pub provision: bool,
}

/// What the operator decided and the cloud allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// No connection is made without; the text says what is missing.
    pub cloud: Result<CloudLimits, String>,
    pub terms: Terms,
    /// So long after the start a login waits for a clock that is doubtful. Zero: the clock is used as it is.
    pub clock_wait: Duration,
    pub reboot: Policy,
    /// The state folder forgets at a reboot, and where it lies; for people.
    pub volatile: Option<String>,
    /// The methods of the handlers; the model adds its own.
    pub methods: Vec<MethodSpec>,
    /// Methods that are not to be had.
    pub disabled: Vec<Method>,
    /// Methods that are to be had though not every device has them. Of the model's own those; of handlers' it changes nothing.
    pub enabled: Vec<Method>,
    /// Other names for methods.
    pub aliases: BTreeMap<Method, Method>,
    /// A reported document that is older than this is sent again.
    pub heartbeat: Duration,
    pub about: About,
}
