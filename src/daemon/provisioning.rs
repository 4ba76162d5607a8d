//! Asks the service that assigns hubs which one this device belongs to: one connection, one question, and as many as it takes
//! to hear what became of it.
//!
//! Decides nothing of when; runs beside the loop, within a time limit, and ends when it is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Sleep, sleep, timeout};

use crate::dialect::provisioning::{Progress, Provisioning};
use crate::model::command::DeviceId;
use crate::model::wire::{MessageId, Packet, Reason, Schedule};
use crate::mqtt::{self, Ask, Event, Link, Order};
use crate::store::StateDir;
use crate::store::assignment::{self, Asked, Assignment};

/// The whole of it. The service is done in seconds; where it is not, asking later costs it less than who waits.
const WHOLE: Duration = Duration::from_secs(120);

/// For the DISCONNECT to leave once the answer is there.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// One exchange with the service, ready with what was assigned.
pub(super) type Exchange = Pin<Box<dyn Future<Output = Result<Assignment, Reason>> + Send>>;

/// Begins one. What is assigned is kept, unless it is `known`.
pub(super) fn begin(
    order: Order,
    service: Provisioning,
    asked: Asked,
    known: Option<Assignment>,
    state: Arc<StateDir>,
) -> Exchange {
    Box::pin(async move {
        let host = asked.host.clone();
        tracing::info!(%host, "asking which hub this device belongs to");
        let late = || {
            let seconds = WHOLE.as_secs();
            Err(Reason::Provisioning(Schedule::Busy, format!("{host} has not decided within {seconds} s")))
        };
        let answer = timeout(WHOLE, exchange(order, &service)).await.unwrap_or_else(|_| late());
        let (hub, device) = answer.map_err(|reason| of_service(reason, &host))?;
        tracing::info!(%hub, %device, "this device belongs to a hub");
        let assignment = Assignment { asked, hub, device };
        if known.as_ref() != Some(&assignment) {
            keep(state, assignment.clone()).await;
        }
        Ok(assignment)
    })
}

/// A service that says no says so of who we are, which is not what a hub's no means. All else is what it is to any broker, but
/// the broker is another one than that of the configuration's first lines, so it is named.
fn of_service(reason: Reason, host: &str) -> Reason {
    let of = |words: String| if words.starts_with(host) { words } else { format!("{host}: {words}") };
    match reason {
        Reason::Dns(words) => Reason::Dns(of(words)),
        Reason::Tcp(words) => Reason::Tcp(of(words)),
        Reason::Proxy(words) => Reason::Proxy(of(words)),
        Reason::ProxyLogin(words) => Reason::ProxyLogin(of(words)),
        Reason::Tls(fault, words) => Reason::Tls(fault, of(words)),
        Reason::CaptivePortal(words) => Reason::CaptivePortal(of(words)),
        Reason::WebSocket(schedule, words) => Reason::WebSocket(schedule, of(words)),
        Reason::Lost(words) => Reason::Lost(of(words)),
        Reason::Undecodable(words) => Reason::Undecodable(of(words)),
        Reason::Protocol(words) => Reason::Protocol(of(words)),
        Reason::Provisioning(schedule, words) => Reason::Provisioning(schedule, of(words)),
        reason @ (Reason::Planned | Reason::NoLogin(_)) => reason,
        reason @ (Reason::Refused { .. }
        | Reason::ClosedBeforeAnswer
        | Reason::SubscriptionRefused { .. }
        | Reason::Closed
        | Reason::TimedOut { .. }
        | Reason::DeadLink { .. }
        | Reason::KickedEarly { .. }
        | Reason::TakenOver { .. }) => Reason::Provisioning(reason.schedule(), of(reason.to_string())),
    }
}

/// Writes it for the next start. That this fails costs a question then, and nothing now.
async fn keep(state: Arc<StateDir>, assignment: Assignment) {
    match tokio::task::spawn_blocking(move || assignment::write(&state, &assignment)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("which hub this is is not kept, and asked again at the next start: {error}"),
        Err(error) => tracing::error!("which hub this is is not kept: {error}"),
    }
}

async fn exchange(order: Order, service: &Provisioning) -> Result<(String, DeviceId), Reason> {
    let mut link = mqtt::connect(order);
    let mut ids = 0..;
    let mut say = |link: &Link, packet: Packet| {
        let id = ids.next().map(MessageId).expect("there are more numbers than questions");
        link.ask(Ask::Publish(id, packet)).map_err(|error| Reason::Lost(error.to_string()))
    };
    // What is asked next: what became of this operation, or for a hub.
    let mut operation: Option<String> = None;
    let mut nap: Option<Pin<Box<Sleep>>> = None;
    loop {
        let event = match &mut nap {
            None => link.event().await,
            Some(rest) => tokio::select! {
                biased;
                event = link.event() => event,
                () = rest.as_mut() => {
                    let question = operation.as_deref().map_or_else(|| service.register(), |name| service.poll(name));
                    say(&link, question)?;
                    nap = None;
                    continue;
                }
            },
        };
        let packet = match event {
            Event::Online { .. } => {
                say(&link, service.register())?;
                continue;
            }
            Event::Settled(_) => continue,
            Event::Ended(reason) => return Err(reason),
            Event::Received(delivery, packet) => {
                // Refused only if the connection has ended, which is told next.
                let _ = link.ask(Ask::Ack(delivery));
                packet
            }
        };
        match service.decode(&packet) {
            Progress::Assigning { operation: name, after } => {
                operation = Some(name);
                nap = Some(Box::pin(sleep(after)));
            }
            Progress::Later { after } => {
                tracing::info!(
                    seconds = after.as_secs(),
                    "the service that assigns hubs is busy, and asked again then"
                );
                nap = Some(Box::pin(sleep(after)));
            }
            Progress::Assigned { hub, device } => {
                leave(link).await;
                return Ok((hub, device));
            }
            Progress::Refused { status, why } => {
                leave(link).await;
                let schedule = if status == 429 || status >= 500 { Schedule::Busy } else { Schedule::Refused };
                return Err(Reason::Provisioning(schedule, why));
            }
            Progress::Nothing => {}
        }
    }
}

/// Says goodbye. Nobody waits for more than that.
async fn leave(mut link: Link) {
    if link.ask(Ask::Disconnect).is_ok() {
        // Late, it is closed without one.
        let _ = timeout(LEAVE_WITHIN, async { while !matches!(link.event().await, Event::Ended(_)) {} }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wire::TlsFault;

    #[test]
    fn whatever_keeps_the_service_from_an_answer_it_is_named() {
        let words = || "as it is".to_owned();
        for reason in [
            Reason::Dns(words()),
            Reason::Tcp(words()),
            Reason::Proxy(words()),
            Reason::ProxyLogin(words()),
            Reason::Tls(TlsFault::Name, words()),
            Reason::CaptivePortal(words()),
            Reason::WebSocket(Schedule::Busy, words()),
            Reason::TimedOut { stage: "waiting", seconds: 30 },
            Reason::Refused { code: 5 },
            Reason::Refused { code: 3 },
            Reason::ClosedBeforeAnswer,
            Reason::SubscriptionRefused { filter: "$dps".to_owned() },
            Reason::Closed,
            Reason::Lost(words()),
            Reason::DeadLink { seconds: 30 },
            Reason::Undecodable(words()),
            Reason::Protocol(words()),
            Reason::Provisioning(Schedule::Refused, "unknown".to_owned()),
            Reason::Provisioning(Schedule::Busy, "dps.example has not decided".to_owned()),
        ] {
            let (told, schedule) = (reason.to_string(), reason.schedule());
            let named = of_service(reason, "dps.example");
            assert_eq!(named.to_string().matches("dps.example").count(), 1, "{told} became {named}");
            assert_eq!(named.schedule(), schedule, "{named}");
        }
    }
}
