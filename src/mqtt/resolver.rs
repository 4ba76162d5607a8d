//! Resolves names, one at a time, with a limit for each who asks, and remembers the last good addresses.
//!
//! `getaddrinfo(3)` can block for 20 s and more where no server answers, and nothing can stop it. So it runs on a thread of its
//! own, which the end of the program does not wait for, and there is never more than one: who asks meanwhile joins it. A table
//! of one name is enough for a daemon with one cloud and one proxy; it is kept for two.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::stage::whole_seconds;

/// Those who may wait at a time: a connection and the one that is prepared beside it, each perhaps twice while a task that was
/// given up goes. Further ones wait in the channel or are turned away.
const ASKERS: usize = 8;

/// Names whose last good addresses are kept: the broker's and the proxy's.
const NAMES: usize = 2;

/// More addresses of one name than this are not tried: the last would start two seconds after the first.
const ADDRESSES: usize = 8;

/// How a name is looked up; blocks.
type LookUp = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Asks for addresses on behalf of all connections of this program. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Resolver {
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
struct Question {
    host: String,
    until: Instant,
    limit: Duration,
    answer: oneshot::Sender<Result<Vec<IpAddr>, String>>,
}

impl Resolver {
    /// Starts it as a task on the current tokio runtime, which ends with the last clone.
    pub fn start() -> Self {
        Self::with(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    fn with(look_up: LookUp) -> Self {
        let (questions, asked) = mpsc::channel(ASKERS);
        tokio::spawn(Desk { look_up, running: None, waiting: Vec::new(), known: Vec::new() }.serve(asked));
        Self { questions }
    }

    /// The addresses of a name: 1 to [`ADDRESSES`], in the order in which they are to be tried. Where that fails or takes longer
    /// than `limit`, the last good ones of this run. The error is for people.
    pub(super) async fn resolve(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { host: host.to_owned(), until: Instant::now() + limit, limit, answer };
        let gone = || format!("{host}: nobody resolves names here");
        self.questions.send(question).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

struct Desk {
    look_up: LookUp,
    running: Option<Running>,
    waiting: Vec<Question>,
    /// Oldest first.
    known: Vec<Known>,
}

struct Running {
    host: String,
    outcome: oneshot::Receiver<io::Result<Vec<IpAddr>>>,
}

struct Known {
    host: String,
    addresses: Vec<IpAddr>,
    /// It was said that these are used without being asked for anew.
    is_told: bool,
}

impl Desk {
    async fn serve(mut self, mut asked: mpsc::Receiver<Question>) {
        loop {
            self.waiting.retain(|question| !question.answer.is_closed());
            self.begin();
            let soonest = self.waiting.iter().map(|question| question.until).min();
            select! {
                outcome = ended(&mut self.running) => self.take(outcome),
                () = sleep_until(soonest.unwrap_or_else(Instant::now)), if soonest.is_some() => self.expire(),
                question = asked.recv(), if self.waiting.len() < ASKERS => match question {
                    Some(question) => self.waiting.push(question),
                    None => return,
                },
            }
        }
    }

    /// Looks up the name of who has waited longest, unless a look-up runs.
    fn begin(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some(Question { host, .. }) = self.waiting.first() else { return };
        let (tell, outcome) = oneshot::channel();
        let (look_up, name) = (self.look_up, host.clone());
        let work = move || {
            // Nobody listens any more if the program ends.
            let _ = tell.send(look_up(&name));
        };
        // Without a thread the channel is closed at once, and that is the outcome.
        let started = std::thread::Builder::new().name("resolver".to_owned()).spawn(work);
        if let Err(error) = started {
            tracing::warn!("{host}: no thread to resolve it: {error}");
        }
        self.running = Some(Running { host: host.clone(), outcome });
    }

    fn take(&mut self, outcome: Result<io::Result<Vec<IpAddr>>, oneshot::error::RecvError>) {
        let Some(Running { host, .. }) = self.running.take() else { return };
        let why = match outcome {
            Ok(Ok(found)) if !found.is_empty() => {
                let addresses = in_turns(found);
                for question in self.asked_for(&host) {
                    // Whoever asked may have given up.
                    let _ = question.answer.send(Ok(addresses.clone()));
                }
                self.learn(host, addresses);
                return;
            }
            Ok(Ok(_)) => "no address".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the look-up came to no end".to_owned(),
        };
        for question in self.asked_for(&host) {
            self.fall_back(question, &why);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let (late, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.until <= now);
        self.waiting = waiting;
        let late: Vec<Question> = late;
        for question in late {
            let why = format!("no answer from the resolver within {} s", whole_seconds(question.limit));
            self.fall_back(question, &why);
        }
    }

    fn asked_for(&mut self, host: &str) -> Vec<Question> {
        let (answered, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.host == host);
        self.waiting = waiting;
        answered
    }

    fn learn(&mut self, host: String, addresses: Vec<IpAddr>) {
        self.known.retain(|known| known.host != host);
        if self.known.len() == NAMES {
            self.known.remove(0);
        }
        self.known.push(Known { host, addresses, is_told: false });
    }

    /// Answers with what is known from before.
    fn fall_back(&mut self, question: Question, why: &str) {
        let Question { host, answer, .. } = question;
        let outcome = match self.known.iter_mut().find(|known| known.host == host) {
            Some(known) => {
                if !std::mem::replace(&mut known.is_told, true) {
                    tracing::warn!("{host}: not resolved: {why}; trying the addresses that it had before");
                }
                Ok(known.addresses.clone())
            }
            None => Err(format!("{host}: {why}")),
        };
        // Whoever asked may have given up.
        let _ = answer.send(outcome);
    }
}

async fn ended(running: &mut Option<Running>) -> Result<io::Result<Vec<IpAddr>>, oneshot::error::RecvError> {
    match running {
        Some(running) => (&mut running.outcome).await,
        None => std::future::pending().await,
    }
}

/// Orders addresses so that the two families take turns, beginning with the one that the resolver prefers (RFC 8305 section 4).
fn in_turns(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = found.first().is_some_and(IpAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    while ordered.len() < ADDRESSES {
        let before = ordered.len();
        ordered.extend(preferred.next());
        ordered.extend(other.next());
        if ordered.len() == before {
            break;
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(30);

    /// Holds a look-up, which blocks its thread, until the test says so; a minute at most, if that has failed.
    fn wait_for(word: &AtomicBool) {
        let begun = Instant::now();
        while !word.load(Ordering::Relaxed) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the test does not say so");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn v4(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    #[test]
    fn families_take_turns_and_their_number_is_bounded() {
        let v6 = |n| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
        assert_eq!(in_turns(vec![v6(1), v6(2), v6(3), v4(1)]), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(in_turns(vec![v4(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)]);
        assert_eq!(in_turns((1..=200).map(v4).collect()).len(), ADDRESSES);
        assert_eq!(in_turns(Vec::new()), Vec::<IpAddr>::new());
    }

    #[tokio::test]
    async fn the_look_up_of_this_machine_and_what_needs_none() {
        let resolver = Resolver::start();
        let found = resolver.resolve("localhost", LATE).await.expect("in /etc/hosts");
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
        assert_eq!(resolver.resolve("::1", Duration::ZERO).await, Ok(vec![Ipv6Addr::LOCALHOST.into()]));
        let failure = resolver.resolve(&"x".repeat(300), LATE).await.expect_err("longer than a name may be");
        assert!(failure.starts_with("xxx"), "{failure}");
    }

    #[tokio::test]
    async fn one_look_up_runs_at_a_time_and_later_askers_join_it() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        static GO: AtomicBool = AtomicBool::new(false);
        let resolver = Resolver::with(|_| {
            BEGUN.fetch_add(1, Ordering::Relaxed);
            wait_for(&GO);
            Ok(vec![v4(1)])
        });
        for _ in 0..3 {
            let failure = resolver.resolve("broker", SOON).await.expect_err("too late for this limit");
            assert_eq!(failure, "broker: no answer from the resolver within 1 s");
        }
        let go = async {
            // Both have asked by then, since all of this runs in one thread.
            tokio::time::sleep(SOON).await;
            GO.store(true, Ordering::Relaxed);
        };
        let (broker, other, ()) = tokio::join!(resolver.resolve("broker", LATE), resolver.resolve("other", LATE), go);
        assert_eq!((broker, other), (Ok(vec![v4(1)]), Ok(vec![v4(1)])));
        assert_eq!(BEGUN.load(Ordering::Relaxed), 2, "one for each name");
    }

    #[tokio::test]
    async fn a_name_that_was_resolved_before_is_still_reached_when_it_is_not_any_more() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static GO: AtomicBool = AtomicBool::new(false);
        let resolver = Resolver::with(|_| match ASKED.fetch_add(1, Ordering::Relaxed) {
            0 => Ok((1..=20).map(v4).collect()),
            2 => Ok(Vec::new()),
            3 => {
                wait_for(&GO);
                Ok(vec![v4(9)])
            }
            // The second, and the last.
            _ => Err(io::Error::other("no server")),
        });
        let first: Vec<IpAddr> = (1..=8).map(v4).collect();
        for limit in [LATE, LATE, LATE, SOON] {
            assert_eq!(resolver.resolve("broker", limit).await, Ok(first.clone()));
        }
        GO.store(true, Ordering::Relaxed);
        assert_eq!(resolver.resolve("broker", LATE).await, Ok(vec![v4(9)]), "the fourth, late but still good");
        assert_eq!(resolver.resolve("broker", LATE).await, Ok(vec![v4(9)]), "and kept in the place of the old ones");
        // The control: a name that was never resolved has nothing to fall back on.
        assert_eq!(resolver.resolve("other", LATE).await, Err("other: no server".to_owned()));
    }
}
