//! Telemetry that waits to be sent: bounded, the oldest dropped and counted. Answers and state go before it.

use std::collections::VecDeque;

use bytes::Bytes;

/// The longest subfolder, in bytes (Cloud IoT Core: 256).
const LONGEST_SUBFOLDER: usize = 256;

/// Messages that may wait.
pub const MESSAGES: usize = 256;

/// And all of them together, in bytes.
const BYTES: usize = 1_024 * 1_024;

/// Sessions in a row that the cloud has closed on telemetry. What it closed on then is dropped: a registry without an
/// event topic closes on each message, and telemetry must not cost the device its commands.
const CLOSED_ON: u32 = 3;

/// Where the cloud files a message: levels of a topic, or nothing. No wildcard can be in it (MQTT 3.1.1, 4.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subfolder(String);

/// The text is no [`Subfolder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a subfolder: expected are words of A-Z a-z 0-9 _ . - with a / between two, at most {LONGEST_SUBFOLDER} characters"
)]
pub struct NotASubfolder;

impl Subfolder {
    /// Checks the text; the only way to make one that is not empty.
    pub fn parse(text: &str) -> Result<Self, NotASubfolder> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let fits = text.is_empty() || text.len() <= LONGEST_SUBFOLDER && text.split('/').all(is_word);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotASubfolder) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subfolder: Subfolder,
    pub payload: Bytes,
}

/// The queue of telemetry.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    waiting: VecDeque<Message>,
    bytes: usize,
    dropped: u64,
    closed_on: u32,
}

impl Telemetry {
    pub fn push(&mut self, message: Message) {
        self.bytes += message.payload.len();
        self.waiting.push_back(message);
        self.drop_the_oldest();
    }

    pub fn pop(&mut self) -> Option<Message> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.payload.len();
        Some(message)
    }

    /// Puts back what was on its way when the connection ended, in its old order.
    pub fn put_back(&mut self, messages: impl DoubleEndedIterator<Item = Message>) {
        for message in messages.rev() {
            self.bytes += message.payload.len();
            self.waiting.push_front(message);
        }
        self.drop_the_oldest();
    }

    fn drop_the_oldest(&mut self) {
        while self.waiting.len() > MESSAGES || (self.bytes > BYTES && self.waiting.len() > 1) {
            self.pop();
            self.dropped += 1;
        }
    }

    /// One will never be sent.
    pub fn gave_up(&mut self) {
        self.dropped += 1;
    }

    /// The cloud has acknowledged one.
    pub fn arrived(&mut self) {
        self.closed_on = 0;
    }

    /// What was on its way when the cloud closed the session: put back, or dropped when that has happened too often.
    pub fn closed_on(&mut self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        self.closed_on += 1;
        if self.closed_on < CLOSED_ON {
            self.put_back(messages.into_iter());
        } else {
            self.closed_on = 0;
            self.dropped += messages.len() as u64;
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: usize, bytes: usize) -> Message {
        Message { subfolder: Subfolder(n.to_string()), payload: vec![0; bytes].into() }
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let mut telemetry = Telemetry::default();
        for n in 0..MESSAGES + 10 {
            telemetry.push(message(n, 1));
        }
        assert_eq!((telemetry.waiting(), telemetry.dropped()), (MESSAGES, 10));
        assert_eq!(telemetry.pop().map(|message| message.subfolder.0), Some("10".to_owned()));
        telemetry.push(message(0, BYTES));
        assert_eq!(telemetry.waiting(), 1, "bytes are bounded too, and the newest stays");
    }

    #[test]
    fn a_subfolder_is_words_and_slashes_between_them() {
        for right in ["", "alerts", "alerts/hot", "a.b-c_d/0", &"x".repeat(LONGEST_SUBFOLDER)] {
            assert_eq!(Subfolder::parse(right).as_ref().map(Subfolder::as_str), Ok(right));
        }
        for wrong in ["/", "/a", "a/", "a//b", "a b", "a+", "#", "a/#", "ä", "a\0", &"x".repeat(LONGEST_SUBFOLDER + 1)]
        {
            assert_eq!(Subfolder::parse(wrong), Err(NotASubfolder), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_on_its_way_goes_first_again() {
        let mut telemetry = Telemetry::default();
        telemetry.push(message(3, 1));
        telemetry.put_back([message(1, 1), message(2, 1)].into_iter());
        let order: Vec<String> = std::iter::from_fn(|| telemetry.pop()).map(|message| message.subfolder.0).collect();
        assert_eq!(order, ["1", "2", "3"]);
        assert_eq!(telemetry.bytes, 0);
    }
}
