//! Waking up in time: by a timer on the boot clock, which counts suspend (the runtime's own timers stand still in it), and
//! by one that the kernel cancels whenever the wall clock is set (`timerfd_create(2)`).
//!
//! Where the kernel gives no such timer, the runtime's timer takes the place of the first, and nothing that of the second:
//! a step is then seen at the next turn.

use std::future::pending;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::now::BootInstant;

/// A moment that no clock reaches while this program runs, in seconds since 1970: the year 4001.
const NEVER: i64 = 64_092_211_200;

/// Wakes its task at a moment of the boot clock.
#[derive(Debug)]
pub struct Alarm {
    timer: Option<AsyncFd<OwnedFd>>,
}

impl Alarm {
    /// Must be called in a tokio runtime.
    pub fn new() -> Self {
        Self { timer: timer(TimerfdClockId::Boottime) }
    }

    /// Waits until then; for ever, without a moment. May be dropped without loss.
    pub async fn wait(&mut self, until: Option<BootInstant>) {
        let Some(until) = until else { return pending().await };
        let left = until.since(super::boot());
        if left.is_zero() {
            return;
        }
        let fired = match &self.timer {
            Some(timer) => fires(timer, until).await,
            None => false,
        };
        if !fired {
            tokio::time::sleep(left).await;
        }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

/// Arms the timer and waits for it; false, if it cannot be used.
async fn fires(timer: &AsyncFd<OwnedFd>, until: BootInstant) -> bool {
    let value = Timespec {
        tv_sec: i64::try_from(until.0.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: until.0.subsec_nanos().into(),
    };
    if arm(timer.get_ref(), TimerfdTimerFlags::ABSTIME, value).is_err() {
        return false;
    }
    loop {
        let Ok(mut ready) = timer.readable().await else { return false };
        match read(timer.get_ref()) {
            Ok(()) => return true,
            // Ready for an older order, which the new one has taken back.
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Tells when the wall clock is set. Slewing is not told.
#[derive(Debug)]
pub struct Steps {
    timer: Option<AsyncFd<OwnedFd>>,
}

impl Steps {
    /// Must be called in a tokio runtime.
    pub fn new() -> Self {
        let timer = timer(TimerfdClockId::Realtime).filter(|timer| watch_clock(timer.get_ref()).is_ok());
        if timer.is_none() {
            tracing::debug!("the kernel does not tell when the clock is set; it is seen at the next turn");
        }
        Self { timer }
    }

    /// Waits until the clock is set. May be dropped without loss.
    pub async fn next(&mut self) {
        let Some(timer) = &self.timer else { return pending().await };
        loop {
            let Ok(mut ready) = timer.readable().await else { break };
            match read(timer.get_ref()) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                // ECANCELED: it was set. Or it has reached the moment that no clock reaches.
                Ok(()) | Err(Errno::CANCELED) => {
                    ready.clear_ready();
                    if watch_clock(timer.get_ref()).is_err() {
                        self.timer = None;
                    }
                    return;
                }
                Err(_) => break,
            }
        }
        self.timer = None;
        pending::<()>().await;
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

fn watch_clock(timer: &OwnedFd) -> Result<(), Errno> {
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    arm(timer, flags, Timespec { tv_sec: NEVER, tv_nsec: 0 })
}

fn arm(timer: &OwnedFd, flags: TimerfdTimerFlags, value: Timespec) -> Result<(), Errno> {
    let once = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(timer, flags, &Itimerspec { it_interval: once, it_value: value }).map(|_| ())
}

fn read(timer: &OwnedFd) -> Result<(), Errno> {
    let mut expirations = [0; 8];
    rustix::io::read(timer, &mut expirations).map(|_| ())
}

fn timer(clock: TimerfdClockId) -> Option<AsyncFd<OwnedFd>> {
    let timer = timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC).ok()?;
    #[expect(deprecated, reason = "what replaces it is unsafe; an OwnedFd keeps the promise that is asked for there")]
    AsyncFd::with_interest(timer, Interest::READABLE).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::clock;

    /// Longer than any machine takes to wake a task.
    const LATE: Duration = Duration::from_secs(20);

    async fn is_pending(alarm: &mut Alarm, until: Option<BootInstant>) -> bool {
        tokio::time::timeout(Duration::from_millis(50), alarm.wait(until)).await.is_err()
    }

    #[tokio::test]
    async fn it_wakes_at_its_moment_and_not_before_and_can_be_set_anew() {
        for mut alarm in [Alarm::new(), Alarm { timer: None }] {
            let in_millis = |millis| clock::boot() + Duration::from_millis(millis);
            assert!(is_pending(&mut alarm, None).await);
            assert!(is_pending(&mut alarm, Some(in_millis(60_000))).await);
            alarm.wait(Some(BootInstant::default())).await;
            for _ in 0..3 {
                let until = in_millis(30);
                tokio::time::timeout(LATE, alarm.wait(Some(until))).await.expect("it wakes");
                assert!(clock::boot() >= until);
            }
            // One that has fired while nobody waited does not wake whoever waits for a later moment. Whether this wait ends by
            // its limit or, on a machine that stalls, by the alarm is all the same.
            let soon = in_millis(500);
            let _ = tokio::time::timeout(Duration::ZERO, alarm.wait(Some(soon))).await;
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(is_pending(&mut alarm, Some(in_millis(60_000))).await);
        }
    }

    #[tokio::test]
    async fn a_clock_that_nobody_sets_is_never_told_of() {
        let mut steps = Steps::new();
        assert!(steps.timer.is_some(), "this kernel tells");
        assert!(tokio::time::timeout(Duration::from_millis(100), steps.next()).await.is_err());
    }
}
