//! When to ping, and when a silent link is dead. Pure: times come in, a verdict goes out.
//!
//! The rule, with K for the keep-alive:
//! * PINGREQ when for K nothing was sent (MQTT 3.1.1 section 3.1.2.10 asks for that) or nothing was received (a link on which we
//!   only send could be dead otherwise).
//! * Dead when after that nothing at all arrives for K/2, so a silent link is noticed within 1.5 K. Any byte counts as a sign of
//!   life: the answer may stand behind a large packet on a slow link.
//! * On doubt PINGREQ at once, and dead when then nothing arrives for K/2 or 10 s, whichever is shorter.
//! * Dead when bytes of ours wait for 1.5 K and not one could be written.
//! * While we do not read, because the daemon has not taken what came before, silence is our own doing and no sign.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that a link is given on doubt. Somebody waits for the verdict: an address has changed, or the machine has slept.
const DOUBTED_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pulse {
    keep_alive: Duration,
    /// The last time when all of our bytes were written, or a ping was begun.
    sent: Instant,
    received: Instant,
    /// A ping is under way since then, and nothing has arrived since.
    pinged: Option<Instant>,
    /// How long the answer to that ping may take.
    patience: Duration,
    /// Bytes of ours wait since then, and none was written since.
    stuck: Option<Instant>,
    listening: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Quiet,
    Ping,
    Dead,
}

impl Pulse {
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        let patience = keep_alive / 2;
        Self { keep_alive, sent: now, received: now, pinged: None, patience, stuck: None, listening: true }
    }

    /// How long an answer to the last ping could take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Bytes were given to the stream to write.
    pub(super) fn queued(&mut self, now: Instant) {
        self.stuck.get_or_insert(now);
    }

    /// Some of the waiting bytes were written.
    pub(super) fn progressed(&mut self, now: Instant) {
        self.stuck = Some(now);
    }

    /// All waiting bytes were written.
    pub(super) fn flushed(&mut self, now: Instant) {
        self.stuck = None;
        self.sent = now;
    }

    /// At least one byte arrived.
    pub(super) fn received(&mut self, now: Instant) {
        self.received = now;
        self.pinged = None;
    }

    /// Whether the stream is read at all. After a pause the other side gets its full time again.
    pub(super) fn listen(&mut self, listening: bool, now: Instant) {
        if listening && !self.listening {
            self.received(now);
        }
        self.listening = listening;
    }

    /// When [`Pulse::check`] can next say anything but [`Beat::Quiet`]. Nothing but `check` itself moves it to an earlier time.
    pub(super) fn deadline(&self) -> Instant {
        let dead = [self.unanswered(), self.unwritten()].into_iter().flatten();
        dead.chain(self.next_ping()).min().unwrap_or(self.sent + self.keep_alive)
    }

    /// The verdict at this moment. After [`Beat::Ping`] a PINGREQ must be queued.
    pub(super) fn check(&mut self, now: Instant) -> Beat {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.unanswered()) || passed(self.unwritten()) {
            Beat::Dead
        } else if passed(self.next_ping()) {
            self.ping(now, self.keep_alive / 2)
        } else {
            Beat::Quiet
        }
    }

    /// Somebody doubts that the link is alive. After [`Beat::Ping`] a PINGREQ must be queued. The deadline may now be earlier.
    pub(super) fn doubt(&mut self, now: Instant) -> Beat {
        let patience = DOUBTED_FOR.min(self.keep_alive / 2);
        match self.pinged {
            // The answer that is waited for tells as much as another one would; what is left of its time is enough or too much.
            Some(at) => {
                self.patience = self.patience.min(now.duration_since(at) + patience);
                Beat::Quiet
            }
            None => self.ping(now, patience),
        }
    }

    fn ping(&mut self, now: Instant, patience: Duration) -> Beat {
        self.pinged = Some(now);
        self.patience = patience;
        self.sent = now;
        Beat::Ping
    }

    fn unanswered(&self) -> Option<Instant> {
        self.pinged.filter(|_| self.listening).map(|at| at + self.patience)
    }

    fn unwritten(&self) -> Option<Instant> {
        self.stuck.map(|at| at + self.keep_alive + self.keep_alive / 2)
    }

    fn next_ping(&self) -> Option<Instant> {
        match (self.listening, self.pinged) {
            (true, Some(_)) => None,
            (true, None) => Some(self.sent.min(self.received) + self.keep_alive),
            (false, _) => Some(self.sent + self.keep_alive),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: Duration = Duration::from_secs(10);
    const S: Duration = Duration::from_secs(1);

    fn begin() -> (Pulse, Instant) {
        let now = Instant::now();
        (Pulse::new(K, now), now)
    }

    #[test]
    fn an_idle_link_is_pinged_once_a_keep_alive_and_dead_half_of_one_later() {
        let (mut pulse, t) = begin();
        assert_eq!(pulse.check(t + 9 * S), Beat::Quiet);
        assert_eq!(pulse.deadline(), t + K);
        assert_eq!(pulse.check(t + K), Beat::Ping);
        assert_eq!(pulse.check(t + K), Beat::Quiet, "one ping, not two");
        assert_eq!(pulse.deadline(), t + 15 * S);
        assert_eq!(pulse.check(t + 15 * S), Beat::Dead);
    }

    #[test]
    fn any_byte_answers_a_ping() {
        let (mut pulse, t) = begin();
        assert_eq!(pulse.check(t + K), Beat::Ping);
        pulse.received(t + 14 * S);
        assert_eq!(pulse.check(t + 15 * S), Beat::Quiet);
        assert_eq!(pulse.check(t + 20 * S), Beat::Ping, "a keep-alive after the last thing sent");
    }

    #[test]
    fn a_link_on_which_we_only_send_is_pinged_too() {
        let (mut pulse, t) = begin();
        for second in 1..10 {
            pulse.queued(t + second * S);
            pulse.flushed(t + second * S);
            assert_eq!(pulse.check(t + second * S), Beat::Quiet);
        }
        assert_eq!(pulse.check(t + K), Beat::Ping);
        assert_eq!(pulse.check(t + 15 * S), Beat::Dead);
    }

    #[test]
    fn a_link_on_which_we_only_receive_is_pinged_too() {
        let (mut pulse, t) = begin();
        pulse.received(t + 9 * S);
        assert_eq!(pulse.check(t + K), Beat::Ping);
    }

    #[test]
    fn bytes_that_cannot_be_written_are_a_dead_link_even_while_bytes_arrive() {
        let (mut pulse, t) = begin();
        pulse.queued(t);
        pulse.progressed(t + 2 * S);
        for second in 3..17 {
            pulse.received(t + second * S);
            assert_ne!(pulse.check(t + second * S), Beat::Dead, "second {second}");
        }
        pulse.received(t + 17 * S);
        assert_eq!(pulse.check(t + 17 * S), Beat::Dead);
    }

    #[test]
    fn while_we_do_not_read_pings_go_on_and_silence_is_no_sign() {
        let (mut pulse, t) = begin();
        assert_eq!(pulse.check(t + K), Beat::Ping);
        pulse.listen(false, t + K);
        pulse.flushed(t + K);
        assert_eq!(pulse.check(t + 16 * S), Beat::Quiet);
        assert_eq!(pulse.check(t + 20 * S), Beat::Ping);
        pulse.flushed(t + 20 * S);
        pulse.listen(true, t + 29 * S);
        assert_eq!(pulse.check(t + 29 * S), Beat::Quiet);
        assert_eq!(pulse.check(t + 30 * S), Beat::Ping);
        assert_eq!(pulse.check(t + 35 * S), Beat::Dead);
    }

    #[test]
    fn on_doubt_a_link_is_asked_at_once_and_given_less_time() {
        let (mut pulse, t) = begin();
        assert_eq!(pulse.doubt(t + S), Beat::Ping);
        assert_eq!(pulse.doubt(t + 2 * S), Beat::Quiet, "one ping is under way");
        assert_eq!(pulse.deadline(), t + 6 * S);
        pulse.received(t + 5 * S);
        assert_eq!(pulse.check(t + 6 * S), Beat::Quiet);

        let (mut slow, t) = (Pulse::new(100 * S, Instant::now()), Instant::now());
        assert_eq!(slow.check(t + 101 * S), Beat::Ping);
        assert_eq!(slow.doubt(t + 111 * S), Beat::Quiet);
        assert_eq!(slow.check(t + 120 * S), Beat::Quiet);
        assert_eq!(slow.check(t + 121 * S), Beat::Dead, "10 s after the doubt, and not 50 after the ping");
    }

    #[test]
    fn the_next_ping_after_a_doubt_has_its_full_time() {
        let (mut pulse, t) = (Pulse::new(100 * S, Instant::now()), Instant::now());
        assert_eq!(pulse.doubt(t), Beat::Ping);
        pulse.received(t + S);
        assert_eq!(pulse.check(t + 100 * S), Beat::Ping);
        assert_eq!(pulse.check(t + 149 * S), Beat::Quiet);
        assert_eq!(pulse.check(t + 150 * S), Beat::Dead);
    }
}
