//! Word of the changes of one unit, for whoever waits for its end.
//!
//! A task of its own takes the signals in as they come: a stream of zbus that nobody reads holds up the answers to calls on
//! the same connection. Signals only say that it is time to look; what they say themselves is kept only where no look shows
//! it, which is how a job ended.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use zbus::message::Message;
use zbus::{Connection, MatchRule, MessageStream};

use super::{CallError, Loaded, MANAGER, NAME, PATH, PROPERTIES, within};

/// Signals between two turns of the task. It does nothing but take them in.
const QUEUE: usize = 32;

/// Looks are this far apart. A unit may say how it goes as often as it likes.
const PAUSE: Duration = Duration::from_millis(200);

/// What has happened since it was made. Ends its task with itself.
#[derive(Debug)]
pub struct Changes {
    news: watch::Receiver<News>,
    _task: JoinSet<()>,
}

#[derive(Clone, Debug, Default)]
struct News {
    /// How the last job of the unit ended: `done`, `failed`, `dependency`, `canceled`, `timeout`, `skipped` …
    job: Option<String>,
    /// The bus is gone, or systemd is there anew and does not know any more that we want to hear of it.
    is_over: bool,
}

enum Signal {
    Changed,
    JobEnded(String),
    ManagerChanged,
}

type Signals = Pin<Box<dyn Stream<Item = Signal> + Send>>;

impl Changes {
    pub(super) async fn of(connection: &Connection, unit: &Loaded) -> Result<Self, CallError> {
        let mut signals = signals(connection, unit).await?;
        let (tell, news) = watch::channel(News::default());
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(signal) = signals.next().await {
                tell.send_modify(|news| match signal {
                    Signal::Changed => {}
                    Signal::JobEnded(result) => news.job = Some(result),
                    Signal::ManagerChanged => news.is_over = true,
                });
            }
            tell.send_modify(|news| news.is_over = true);
        });
        Ok(Self { news, _task: task })
    }

    /// Returns when there may be something to see, though not at once each time. May be dropped without loss.
    ///
    /// # Errors
    ///
    /// If no more word will come: whoever still waits connects anew.
    pub async fn next(&mut self) -> Result<(), CallError> {
        // By a copy: what is dropped during the pause is still news.
        let is_known = self.news.clone().changed().await.is_ok();
        if is_known && !self.news.borrow().is_over {
            tokio::time::sleep(PAUSE).await;
        }
        self.news.mark_unchanged();
        if !is_known || self.news.borrow().is_over {
            return Err(CallError::Lost("the connection to the bus ended".to_owned()));
        }
        Ok(())
    }

    /// How the last job of the unit ended, if one has since this was made.
    pub fn job(&self) -> Option<String> {
        self.news.borrow().job.clone()
    }
}

async fn signals(connection: &Connection, unit: &Loaded) -> Result<Signals, CallError> {
    let rule = || MatchRule::builder().msg_type(zbus::message::Type::Signal);
    let changed =
        rule().sender(NAME)?.interface(PROPERTIES)?.member("PropertiesChanged")?.path(unit.path.clone())?.build();
    let ended = rule().sender(NAME)?.interface(MANAGER)?.member("JobRemoved")?.path(PATH)?;
    let ended = ended.arg(2, unit.name.as_str().to_owned())?.build();
    let (bus, path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
    let owner = rule().sender(bus)?.interface(bus)?.member("NameOwnerChanged")?.path(path)?.arg(0, NAME)?.build();
    let changed = listen(connection, changed).await?.map(|_| Signal::Changed);
    let ended = listen(connection, ended).await?.map(|message| Signal::JobEnded(result(&message)));
    let owner = listen(connection, owner).await?.map(|_| Signal::ManagerChanged);
    // Over with the first of them: all three end with the connection.
    let all = stream::select(end_marked(changed), stream::select(end_marked(ended), end_marked(owner)));
    Ok(Box::pin(all))
}

fn end_marked(signals: impl Stream<Item = Signal> + Send + 'static) -> Signals {
    Box::pin(signals.chain(stream::iter([Signal::ManagerChanged])))
}

async fn listen(
    connection: &Connection,
    rule: MatchRule<'static>,
) -> Result<impl Stream<Item = Message> + Send + use<>, CallError> {
    let stream = within(MessageStream::for_match_rule(rule, connection, Some(QUEUE))).await?;
    // After an error nothing follows.
    Ok(stream
        .take_while(|message| std::future::ready(message.is_ok()))
        .filter_map(|message| std::future::ready(message.ok())))
}

/// `JobRemoved` brings the number, the path, the unit and the result.
fn result(message: &Message) -> String {
    type Removed = (u32, zbus::zvariant::OwnedObjectPath, String, String);
    message.body().deserialize::<Removed>().map_or_else(|_| String::new(), |(_, _, _, result)| result)
}
