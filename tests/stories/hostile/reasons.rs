//! The codes of the reasons that a log names, read back from its words.

use std::collections::BTreeSet;

use twinagent::model::wire::{Reason, Schedule, TlsFault};

/// The beginning of each reason's words, as far as it does not depend on what happened, and its code.
fn beginnings() -> Vec<(String, &'static str)> {
    let text = String::new;
    let mut all: Vec<Reason> = vec![
        Reason::NoLogin(text()),
        Reason::Dns(text()),
        Reason::Tcp(text()),
        Reason::Proxy(text()),
        // The words after it say which fault of TLS it is; its code is not asked for here.
        Reason::Tls(TlsFault::Other, text()),
        Reason::CaptivePortal(text()),
        Reason::WebSocket(Schedule::Refused, text()),
        Reason::TimedOut { stage: "", seconds: 0 },
        Reason::ClosedBeforeAnswer,
        Reason::SubscriptionRefused { filter: text() },
        Reason::Closed,
        Reason::Lost(text()),
        Reason::DeadLink { seconds: 0 },
        Reason::KickedEarly { seconds: 0 },
        Reason::TakenOver { times: 0 },
        Reason::Undecodable(text()),
        Reason::Protocol(text()),
    ];
    all.extend((0..=u8::MAX).map(|code| Reason::Refused { code }));
    let beginning = |reason: &Reason| {
        let words = reason.to_string();
        let end = match reason {
            // The number of the refusal decides.
            Reason::Refused { .. } => words.len(),
            _ => words.find(|letter: char| letter.is_ascii_digit() || letter == '`').unwrap_or(words.len()),
        };
        (words[..end].to_owned(), reason.code())
    };
    all.iter().map(beginning).collect()
}

/// The codes of all reasons for which there was no connection, by this log.
pub(super) fn named(log: &str) -> BTreeSet<&'static str> {
    let beginnings = beginnings();
    let told = log.lines().filter(|line| line.contains("twinagent::daemon"));
    let words = told.filter_map(|line| line.split_once("not connected: ").map(|(_, words)| words));
    words
        .map(|words| {
            let fits = beginnings.iter().filter(|(beginning, _)| words.starts_with(beginning.as_str()));
            fits.max_by_key(|(beginning, _)| beginning.len()).map_or("unknown", |(_, code)| *code)
        })
        .collect()
}

#[test]
fn each_reason_is_told_from_the_others_by_its_words() {
    let line = |reason: &Reason| format!("WARN twinagent::daemon::narrator: not connected: {reason}; hint: none");
    for (reason, code) in [
        (Reason::Closed, "closed"),
        (Reason::ClosedBeforeAnswer, "closed-before-answer"),
        (Reason::KickedEarly { seconds: 7 }, "kicked-early"),
        (Reason::TakenOver { times: 3 }, "taken-over"),
        (Reason::Refused { code: 3 }, "unavailable"),
        (Reason::Refused { code: 0x13 }, "refused"),
        (Reason::TimedOut { stage: "waiting", seconds: 2 }, "time-out"),
        (Reason::DeadLink { seconds: 3 }, "dead-link"),
    ] {
        assert_eq!(named(&line(&reason)), BTreeSet::from([code]), "{reason}");
        assert_eq!(reason.code(), code);
    }
}
