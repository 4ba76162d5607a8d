//! The handlers and their runs, whose end is an input of the loop: at once where a harmless one has its answer at once,
//! else that of a task with a time limit.

use std::collections::HashMap;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use crate::handler::{Context, Handler, NEWS, Running, Stop, interrupted};
use crate::model::agent::Input;
use crate::model::command::{Command, Method, MethodSpec, Outcome, Status};
use crate::model::runs::RunId;

pub(super) struct Workers {
    handlers: HashMap<Method, (MethodSpec, Arc<dyn Handler>)>,
    tasks: JoinSet<Outcome>,
    runs: HashMap<Id, RunId>,
    stops: HashMap<RunId, watch::Sender<Option<Stop>>>,
    news: mpsc::Sender<(RunId, String)>,
    heard: mpsc::Receiver<(RunId, String)>,
}

/// How a run begins: anew, or again after the daemon stopped.
type Begin = fn(&dyn Handler, &Command, Context) -> Running;

/// What a run is held to.
struct Limits {
    time_limit: Duration,
    grace: Duration,
}

impl Limits {
    /// The outcome of the run, or of its being stopped.
    async fn keep(
        self,
        mut running: Running,
        stop: watch::Sender<Option<Stop>>,
        mut stopped: watch::Receiver<Option<Stop>>,
    ) -> Outcome {
        let cause = tokio::select! {
            outcome = &mut running => return outcome,
            _ = stopped.wait_for(Option::is_some) => Stop::Cancelled,
            () = tokio::time::sleep(self.time_limit) => Stop::TimedOut,
        };
        // Refused if it was cancelled at the same moment.
        stop.send_if_modified(|stop| stop.is_none() && stop.replace(cause).is_none());
        let ended = tokio::time::timeout(self.grace, &mut running).await;
        ended.unwrap_or_else(|_| cause.outcome(self.time_limit))
    }
}

impl Workers {
    pub(super) fn new(handlers: &[Arc<dyn Handler>]) -> Self {
        let (news, heard) = mpsc::channel(NEWS);
        let (runs, stops) = (HashMap::new(), HashMap::new());
        let mut workers = Self { handlers: HashMap::new(), tasks: JoinSet::new(), runs, stops, news, heard };
        workers.replace(handlers);
        workers
    }

    /// Runs these from now on. What runs goes on as it has begun, and under the limits that it began with. Of two with one
    /// method the last holds.
    pub(super) fn replace(&mut self, handlers: &[Arc<dyn Handler>]) {
        let named = |handler: &Arc<dyn Handler>| {
            let spec = handler.spec();
            (spec.name.clone(), (spec, handler.clone()))
        };
        self.handlers = handlers.iter().map(named).collect();
    }

    pub(super) fn methods(&self) -> Vec<MethodSpec> {
        self.handlers.values().map(|(spec, _)| spec.clone()).collect()
    }

    /// Begins a run; its end, if it has ended already.
    pub(super) fn start(&mut self, run: RunId, command: Command) -> Option<Input> {
        if !self.handlers.contains_key(&command.method) {
            // Taken on before its manifest went.
            let why = format!("this device does not answer {} any more", command.method);
            return Some(Input::Finished(run, Outcome::failed(Status::UNKNOWN_METHOD, why)));
        }
        self.begin(run, command, |handler, command, context| handler.run(command, context))
    }

    /// Asks what became of a run that was cut off; the answer, if it is there at once.
    pub(super) fn resume(&mut self, run: RunId, command: Command) -> Option<Input> {
        self.begin(run, command, |handler, command, context| handler.resume(command, context))
    }

    fn begin(&mut self, run: RunId, command: Command, begin: Begin) -> Option<Input> {
        // The journal may name a method of an older configuration.
        let Some((spec, handler)) = self.handlers.get(&command.method) else {
            return Some(Input::Finished(run, interrupted()));
        };
        let (time_limit, output_limit, grace) = (spec.time_limit, spec.output_limit, handler.grace());
        let (stop, stopped) = watch::channel(None);
        let context = Context::new(run, self.news.clone(), stopped.clone());
        // Most harmless methods have their answer at once. It then leaves with the PUBACK, in one write, and costs no
        // task. Any other method runs as a task behind the connection's, so that its PUBACK has left before.
        let running: Running = if spec.harmless {
            match first_poll(|| begin(handler.as_ref(), &command, context)) {
                Ok(outcome) => return Some(Input::Finished(run, outcome.within(output_limit))),
                Err(running) => running,
            }
        } else {
            let handler = handler.clone();
            Box::pin(async move { begin(handler.as_ref(), &command, context).await })
        };
        let (limits, within) = (Limits { time_limit, grace }, stop.clone());
        let task = self.tasks.spawn(async move { limits.keep(running, within, stopped).await.within(output_limit) });
        self.runs.insert(task.id(), run);
        self.stops.insert(run, stop);
        None
    }

    /// Stops a run, which gets the time that its handler needs for that. It ends like any other, for whoever still wants to
    /// know.
    pub(super) fn cancel(&mut self, run: RunId) {
        if let Some(stop) = self.stops.get(&run) {
            stop.send_if_modified(|stop| stop.is_none() && stop.replace(Stop::Cancelled).is_none());
        }
    }

    /// The next run that ends, or says how it goes; never, while none runs. May be dropped without loss.
    pub(super) async fn next(&mut self) -> Input {
        tokio::select! {
            Some((run, text)) = self.heard.recv() => Input::Progress(run, text),
            Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            else => pending().await,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Input> {
        let ended = self.tasks.try_join_next_with_id()?;
        Some(self.ended(ended))
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Input {
        let (task, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), panicked()),
        };
        let run = self.runs.remove(&task).expect("every task was noted when it was spawned");
        self.stops.remove(&run);
        Input::Finished(run, outcome)
    }
}

/// The outcome of a run if it ends at its first poll, else the run. The next poll must follow at once, as it does in a
/// new task: until then nobody is woken by what it waits for.
fn first_poll(begin: impl FnOnce() -> Running) -> Result<Outcome, Running> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let mut running = begin();
        match running.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Ok(outcome),
            Poll::Pending => Err(running),
        }
    }));
    polled.unwrap_or_else(|_| Ok(panicked()))
}

fn panicked() -> Outcome {
    tracing::error!("a handler panicked; the message stands above");
    Outcome::failed(Status::FAILED, "the handler panicked; see the log of the agent")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::ready;

    use serde_json::json;

    use super::*;
    use crate::model::command::{Class, CommandId, DeviceId, Key};
    use crate::model::runs::Runs;

    /// Handlers that end in every way there is, by name.
    struct Odd(&'static str);

    impl Handler for Odd {
        fn spec(&self) -> MethodSpec {
            MethodSpec {
                harmless: self.0 != "recorded",
                class: Class::Parallel(8),
                time_limit: Duration::from_millis(200),
                output_limit: 8,
                ..MethodSpec::new(Method::parse(self.0).expect("a method name"))
            }
        }

        fn run(&self, _: &Command, _: Context) -> Running {
            let done = || Outcome::new(Status::DONE, json!("done"));
            match self.0 {
                "instant" | "recorded" => Box::pin(ready(done())),
                "verbose" => Box::pin(ready(Outcome::new(Status::DONE, json!("more than 8 bytes")))),
                "slow" => Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    done()
                }),
                "endless" => Box::pin(pending()),
                "panicsAtOnce" => Box::pin(async { panic!("at once") }),
                "panicsLater" => Box::pin(async {
                    tokio::task::yield_now().await;
                    panic!("later")
                }),
                _ => panic!("before it has begun"),
            }
        }
    }

    #[tokio::test]
    async fn a_run_ends_at_once_or_later_and_in_each_way_once() {
        let at_once = [("instant", 200), ("verbose", 200), ("panicsAtOnce", 500), ("panicsBefore", 500), ("gone", 404)];
        let later = [("recorded", 200), ("slow", 200), ("endless", 408), ("panicsLater", 500)];
        let known = at_once.iter().chain(&later).map(|(name, _)| *name).filter(|name| *name != "gone");
        let handlers: Vec<Arc<dyn Handler>> = known.map(|name| Arc::new(Odd(name)) as _).collect();
        let mut workers = Workers::new(&handlers);
        let mut runs = Runs::default();
        let mut start = |workers: &mut Workers, name: &str| {
            let method = Method::parse(name).expect("a method name");
            let id = CommandId::parse(name).expect("an id");
            let key = Key { target: DeviceId::parse("d").expect("an id"), id };
            let run = runs.begin(crate::model::runs::Run::Harmless {
                key: key.clone(),
                method: method.clone(),
                to: crate::model::runs::To::Cloud(None),
                received: crate::host::clock::wall(),
            });
            (run, workers.start(run, Command { key, method, payload: json!(null) }))
        };
        for (name, expected) in at_once {
            let (started, end) = start(&mut workers, name);
            let Some(Input::Finished(run, outcome)) = end else { panic!("{name} did not end at once") };
            assert_eq!((run, outcome.status.0), (started, expected), "{name}");
        }
        let mut waiting: BTreeMap<RunId, (&str, u16)> = BTreeMap::new();
        for (name, expected) in later {
            let (run, end) = start(&mut workers, name);
            assert_eq!(end, None, "{name} takes its time");
            waiting.insert(run, (name, expected));
        }
        while !waiting.is_empty() {
            let Input::Finished(run, outcome) = workers.next().await else { panic!("something else ended") };
            let (name, expected) = waiting.remove(&run).expect("a run that was started and has not ended before");
            assert_eq!(outcome.status.0, expected, "{name}");
        }
        assert_eq!(workers.try_next(), None, "nothing ends twice");
    }

    #[tokio::test]
    async fn a_run_goes_on_when_its_handler_is_replaced_and_the_next_is_that_of_another() {
        let mut workers = Workers::new(&[Arc::new(Odd("slow")) as Arc<dyn Handler>]);
        let mut runs = Runs::default();
        let mut command = |name: &str| {
            let (method, id) = (Method::parse(name).expect("a name"), CommandId::parse(name).expect("an id"));
            let key = Key { target: DeviceId::parse("d").expect("an id"), id };
            let received = crate::host::clock::wall();
            let to = crate::model::runs::To::Cloud(None);
            let run = runs.begin(crate::model::runs::Run::Harmless {
                key: key.clone(),
                method: method.clone(),
                to,
                received,
            });
            (run, Command { key, method, payload: json!(null) })
        };
        let (run, slow) = command("slow");
        assert_eq!(workers.start(run, slow.clone()), None);
        workers.replace(&[Arc::new(Odd("instant")) as Arc<dyn Handler>]);
        let (second, again) = command("slow");
        let Some(Input::Finished(ended, outcome)) = workers.start(second, again) else { panic!("it is gone") };
        assert_eq!((ended, outcome.status), (second, Status::UNKNOWN_METHOD));
        let Some(Input::Finished(_, outcome)) = workers.resume(second, slow) else { panic!("nobody can tell") };
        assert_eq!(outcome, interrupted());
        let (third, instant) = command("instant");
        assert!(matches!(workers.start(third, instant), Some(Input::Finished(..))));
        let Input::Finished(ended, outcome) = workers.next().await else { panic!("something else ended") };
        assert_eq!((ended, outcome.status), (run, Status::DONE), "the first has gone on");
    }

    #[tokio::test]
    async fn a_run_that_is_cancelled_ends_at_once() {
        let handlers: Vec<Arc<dyn Handler>> = vec![Arc::new(Odd("endless"))];
        let mut workers = Workers::new(&handlers);
        let method = Method::parse("endless").expect("a method name");
        let id = CommandId::parse("1").expect("an id");
        let key = Key { target: DeviceId::parse("d").expect("an id"), id };
        let received = crate::host::clock::wall();
        let to = crate::model::runs::To::Cloud(None);
        let run = Runs::default().begin(crate::model::runs::Run::Harmless {
            key: key.clone(),
            method: method.clone(),
            to,
            received,
        });
        assert_eq!(workers.start(run, Command { key, method, payload: json!(null) }), None);
        workers.cancel(run);
        workers.cancel(run);
        let Input::Finished(ended, outcome) = workers.next().await else { panic!("something else ended") };
        assert_eq!((ended, outcome.status), (run, Status::CANCELLED));
    }
}
