//! One look at the machine: who could reboot it, who holds that back.
//!
//! Asks everybody and weighs what they say; whether the machine may reboot then, the model decides.

use std::path::PathBuf;

use super::bus::Asking;
use crate::config::Mode;
use crate::config::veto::{End, Vetoes};
use crate::host::clock as clocks;
use crate::host::logind::Right;
use crate::host::power::Places;
use crate::model::now::{BootId, Clock, Now};
use crate::model::reboot::facts::{Facts, Veto, Way};

/// What is looked at.
pub(super) struct Look {
    pub(super) mode: Mode,
    /// Missing in a simulation.
    pub(super) logind: Option<Asking>,
    pub(super) places: Places,
    pub(super) vetoes: [PathBuf; 2],
    pub(super) boot_id: BootId,
    /// Whether the wall clock can be believed.
    pub(super) clock: Clock,
}

impl Look {
    /// How things stand, and what is wrong with veto files.
    pub(super) async fn facts(self) -> (Facts, Vec<String>) {
        let Self { mode, logind, places, vetoes, boot_id, clock } = self;
        let files = tokio::task::spawn_blocking(move || {
            let now = Now { clock, ..clocks::now(boot_id) };
            let Vetoes { vetoes, troubles } = Vetoes::read(vetoes.iter().map(PathBuf::as_path));
            (
                vetoes.into_iter().filter_map(|veto| standing(veto, &now)).collect::<Vec<Veto>>(),
                troubles,
                places.reach(),
            )
        });
        let Some(logind) = logind else {
            // Nothing is asked of the machine, and nothing is done to it; only operators are heeded as they would be.
            let (vetoes, troubles, _) = files.await.unwrap_or_else(|_| unread());
            return (Facts { vetoes, ..Facts::clear(Way::Helper) }, troubles);
        };
        let (said, files) = tokio::join!(logind.look(), files);
        let (vetoes, troubles, helper) = files.unwrap_or_else(|_| unread());
        let (logind, inhibitors) = match said {
            Ok((right, inhibitors)) => (judge(right, !inhibitors.is_empty()), inhibitors),
            Err(why) => {
                let hint = "hint: without D-Bus and systemd-logind set `mode = \"helper\"` under [reboot]";
                (Err(Refusal::Helpless(format!("{why}; {hint}"))), Vec::new())
            }
        };
        (Facts { way: way(mode, logind, helper), inhibitors, vetoes }, troubles)
    }
}

/// Why logind will not reboot the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// It cannot be asked, or does not let us. Root's helper may do it all the same.
    Helpless(String),
    /// Nobody can, whoever asks.
    Impossible,
}

fn judge(right: Result<Right, String>, is_inhibited: bool) -> Result<(), Refusal> {
    let hint = "hint: polkit and the rule of this package give it the right";
    match right {
        Ok(Right::Yes) => Ok(()),
        // It reads so too where only the lock is in the way; it is asked again without.
        Ok(Right::Challenge) if is_inhibited => Ok(()),
        Ok(Right::Challenge) => Err(Refusal::Helpless(format!("logind wants somebody to give a password; {hint}"))),
        Ok(Right::No) => Err(Refusal::Helpless(format!("logind does not let the agent reboot; {hint}"))),
        Ok(Right::Impossible) => Err(Refusal::Impossible),
        Err(why) => Err(Refusal::Helpless(format!("{why}; {hint}"))),
    }
}

/// The way in this mode, or why there is none.
fn way(mode: Mode, logind: Result<(), Refusal>, helper: Result<(), String>) -> Result<Way, String> {
    let helper = helper.map(|()| Way::Helper);
    match (mode, logind) {
        (Mode::Helper | Mode::Simulate, _) => helper,
        (Mode::Logind | Mode::Auto, Ok(())) => Ok(Way::Logind),
        (Mode::Logind | Mode::Auto, Err(Refusal::Impossible)) => {
            Err("logind says that this machine cannot be rebooted".to_owned())
        }
        (Mode::Logind, Err(Refusal::Helpless(why))) => Err(why),
        (Mode::Auto, Err(Refusal::Helpless(why))) => helper.map_err(|helper| format!("{why}; {helper}")),
    }
}

/// A veto that is not over, as the model knows it. While the clock is not set, only the boot clock can say that.
fn standing(veto: crate::config::veto::Veto, now: &Now) -> Option<Veto> {
    let is_known = now.clock.is_believed() || matches!(veto.end, Some(End::Boot(_)));
    if is_known && veto.is_over(now) {
        return None;
    }
    let expires = veto.expires(now);
    Some(Veto { name: veto.name, reason: veto.reason, expires })
}

/// What is to be believed where the reading itself has failed: that somebody holds the reboot back.
fn unread() -> (Vec<Veto>, Vec<String>, Result<(), String>) {
    let why = "the folders of vetoes could not be read";
    let veto = Veto { name: "unread".to_owned(), reason: why.to_owned(), expires: None };
    (vec![veto], vec![why.to_owned()], Err(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helpless() -> Result<(), Refusal> {
        judge(Err("no bus".to_owned()), false)
    }

    #[test]
    fn the_helper_serves_only_where_logind_does_not() {
        let no_helper = || Err("no helper".to_owned());
        assert_eq!(way(Mode::Auto, Ok(()), Ok(())), Ok(Way::Logind));
        assert_eq!(way(Mode::Auto, helpless(), Ok(())), Ok(Way::Helper));
        let why = way(Mode::Auto, helpless(), no_helper()).expect_err("nobody");
        assert!(why.starts_with("no bus; hint: ") && why.ends_with("; no helper"), "{why}");
        assert!(way(Mode::Auto, Err(Refusal::Impossible), Ok(())).is_err(), "what nobody can do the helper cannot");
        assert!(way(Mode::Logind, helpless(), Ok(())).is_err());
        assert_eq!(way(Mode::Logind, Ok(()), no_helper()), Ok(Way::Logind));
        assert_eq!(way(Mode::Helper, Ok(()), no_helper()), Err("no helper".to_owned()));
        assert_eq!(way(Mode::Helper, helpless(), Ok(())), Ok(Way::Helper));
    }

    #[test]
    fn a_lock_is_told_from_a_missing_right() {
        assert_eq!(judge(Ok(Right::Challenge), true), Ok(()));
        for (right, is_inhibited) in [(Right::Challenge, false), (Right::No, false), (Right::No, true)] {
            assert!(matches!(judge(Ok(right), is_inhibited), Err(Refusal::Helpless(_))), "{right:?} {is_inhibited}");
        }
        assert_eq!(judge(Ok(Right::Impossible), true), Err(Refusal::Impossible));
    }
}
