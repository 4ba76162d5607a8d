//! Whether the wall clock is to be believed, and what a login should say of the time if it is not.
//!
//! A value: it is told what the clocks show and what those say who keep them, and asks nobody.

use std::time::Duration;

use crate::host::clock::{Word, earliest};
use crate::model::device_key::KeySlot;
use crate::model::now::{BootInstant, Clock, Now, Timestamp};

/// A change of the wall clock beyond this, against the boot clock, is a step.
const STEP: Duration = Duration::from_secs(1);

/// Slewing goes on for long and is no step: adjtime(3) moves a clock by one part in 2000, chrony by more if it must.
const SLEWED: u32 = 1_000;

/// A clock that shows so much less than the floor is not doubted for that: it is slewed, and not read at the same instant
/// as the boot clock.
const TOLERATED: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(super) struct Belief {
    /// For how long after `started` those who keep the clock are waited for. Zero: it is used as it is.
    wait: Duration,
    started: BootInstant,
    word: Word,
    /// It cannot be earlier than `floor` plus what has passed since `floored`.
    floor: Timestamp,
    floored: BootInstant,
    /// Somebody has set it, or a cloud has taken a login that named its time.
    is_vouched_for: bool,
    /// What the clocks showed at the last turn.
    last: (Timestamp, BootInstant),
    /// Logins under a doubtful clock.
    tries: [u32; KeySlot::ALL.len()],
    /// The last login named the time of the clock itself.
    named_itself: bool,
}

impl Belief {
    /// `seen`: the last moment that is known to have been.
    pub(super) fn new(wait: Duration, seen: Option<Timestamp>, wall: Timestamp, boot: BootInstant) -> Self {
        Self {
            wait,
            started: boot,
            word: Word::Nothing,
            floor: seen.map_or(earliest(), |seen| seen.max(earliest())),
            floored: boot,
            is_vouched_for: false,
            last: (wall, boot),
            tries: [0; KeySlot::ALL.len()],
            named_itself: false,
        }
    }

    pub(super) fn set_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// Takes note of what is said of the clock. Once it was synchronized it is so for this boot; and who has said that it
    /// is not, and cannot be reached any more, has not taken that back.
    pub(super) fn hear(&mut self, word: Word) {
        self.word = match (self.word, word) {
            (Word::Synchronized, _) => Word::Synchronized,
            (known, Word::Nothing) => known,
            (_, word) => word,
        };
    }

    pub(super) fn is_synchronized(&self) -> bool {
        self.word == Word::Synchronized
    }

    /// What is to be thought of a clock that shows this.
    ///
    /// Where nobody keeps it who could be asked, it is used unchecked once `wait` is over, unless it shows less than it
    /// must; at once, if somebody sets it while we look on. Without a wait it is so whatever the keepers say: the operator
    /// has said it.
    pub(super) fn judge(&self, wall: Timestamp, boot: BootInstant) -> Clock {
        let is_behind = wall.saturating_add(TOLERATED) < self.floor(boot);
        let is_likely = self.is_vouched_for || (boot >= self.wait_ends() && !is_behind);
        match self.word {
            _ if wall < earliest() => Clock::Doubtful,
            Word::Synchronized => Clock::Trusted,
            Word::Unsynchronized if !self.wait.is_zero() => Clock::Doubtful,
            Word::Unsynchronized | Word::Nothing if is_likely => Clock::Unchecked,
            Word::Unsynchronized | Word::Nothing => Clock::Doubtful,
        }
    }

    fn wait_ends(&self) -> BootInstant {
        self.started + self.wait
    }

    /// When it is to be judged anew though nothing has happened.
    pub(super) fn due(&self) -> Option<BootInstant> {
        (self.word == Word::Nothing && self.last.1 < self.wait_ends()).then(|| self.wait_ends())
    }

    fn floor(&self, boot: BootInstant) -> Timestamp {
        self.floor.saturating_add(boot.since(self.floored))
    }

    /// Time has passed, and these are what the clocks show. By how many microseconds the wall clock was set meanwhile, if
    /// it was.
    pub(super) fn passes(&mut self, wall: Timestamp, boot: BootInstant) -> Option<i64> {
        let (last_wall, last_boot) = std::mem::replace(&mut self.last, (wall, boot));
        let passed = boot.since(last_boot);
        let expected = last_wall.saturating_add(passed);
        let step = (wall.apart(expected) > STEP + passed / SLEWED)
            .then(|| wall.unix_micros().saturating_sub(expected.unix_micros()));
        self.is_vouched_for |= step.is_some();
        if self.judge(wall, boot).is_believed() {
            (self.floor, self.floored) = (wall, boot);
        }
        step
    }

    /// What a login should say that the time is.
    ///
    /// Under a doubtful clock it is the floor, which is nearer to the truth than 1970. But a clock that was once ahead has
    /// left a floor that is too high; so every other try names the clock's own time, if that is not impossible.
    pub(super) fn for_login(&mut self, now: &Now, key: KeySlot) -> Timestamp {
        let floor = self.floor(now.boot);
        let as_it_is = now.clock.is_believed() || self.wait.is_zero() || now.wall >= floor || {
            let tries = &mut self.tries[key as usize];
            *tries = tries.wrapping_add(1);
            tries.is_multiple_of(2) && now.wall >= earliest()
        };
        self.named_itself = as_it_is;
        if as_it_is { now.wall } else { floor }
    }

    /// The cloud has taken the last login: what that said of the time is not far from what the cloud's clock shows.
    pub(super) fn login_was_taken(&mut self) {
        self.is_vouched_for |= self.named_itself;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn up(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    fn now(belief: &Belief, wall: Timestamp, boot: BootInstant) -> Now {
        let boot_id = "7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10".parse().expect("a UUID");
        Now { wall, boot, boot_id, clock: belief.judge(wall, boot) }
    }

    #[test]
    fn synchronized_counts_once_for_the_boot_but_never_for_a_time_before_this_program() {
        let wall = at("2030-01-01T00:00:00Z");
        let mut belief = Belief::new(2 * MINUTE, None, wall, up(0));
        assert_eq!(belief.judge(wall, up(1)), Clock::Doubtful, "the wait is not over");
        belief.hear(Word::Unsynchronized);
        assert_eq!(belief.judge(wall, up(10_000)), Clock::Doubtful, "somebody says no");
        belief.hear(Word::Nothing);
        assert_eq!(belief.judge(wall, up(10_000)), Clock::Doubtful, "and has not taken it back");
        belief.hear(Word::Synchronized);
        for later in [Word::Unsynchronized, Word::Nothing] {
            belief.hear(later);
            assert_eq!(belief.judge(wall, up(10_000)), Clock::Trusted);
        }
        assert_eq!(belief.judge(at("1970-01-01T00:00:10Z"), up(10_000)), Clock::Doubtful);
    }

    #[test]
    fn without_keepers_the_floor_decides_after_the_wait_and_a_setting_at_once() {
        let (seen, behind) = (at("2030-06-01T00:00:00Z"), at("2030-05-01T00:00:00Z"));
        let mut belief = Belief::new(2 * MINUTE, Some(seen), seen, up(0));
        assert_eq!(belief.due(), Some(up(120)));
        assert_eq!(belief.judge(seen.saturating_add(2 * MINUTE), up(119)), Clock::Doubtful);
        assert_eq!(belief.judge(seen.saturating_add(2 * MINUTE), up(120)), Clock::Unchecked);
        assert_eq!(belief.judge(behind, up(120)), Clock::Doubtful, "it was later once");
        assert_eq!(belief.passes(behind, up(1)), Some(-(31 * 24 * 3_600 + 1) * 1_000_000));
        assert_eq!(belief.judge(behind, up(1)), Clock::Unchecked, "somebody has set it");
        let mut as_it_is = Belief::new(Duration::ZERO, None, seen, up(7));
        as_it_is.hear(Word::Unsynchronized);
        assert_eq!(as_it_is.judge(seen, up(7)), Clock::Unchecked, "the operator has said it");
    }

    #[test]
    fn a_clock_that_is_slewed_back_is_not_doubted() {
        let mut wall = at("2030-01-01T00:00:00Z");
        let mut belief = Belief::new(Duration::ZERO, None, wall, up(0));
        for day in 1..100 {
            wall = wall.saturating_add(Duration::from_secs(24 * 60 * 60 - 40));
            let now = up(day * 24 * 60 * 60);
            assert_eq!((belief.passes(wall, now), belief.judge(wall, now)), (None, Clock::Unchecked), "day {day}");
        }
    }

    #[test]
    fn slewing_is_no_step_however_long_it_goes_on() {
        let start = at("2030-01-01T00:00:00Z");
        let mut belief = Belief::new(MINUTE, None, start, up(0));
        let day = 24 * 60 * 60;
        let slewed = start.saturating_add(Duration::from_secs(day + day / 2_000));
        assert_eq!(belief.passes(slewed, up(day)), None);
        let soon = slewed.saturating_add(Duration::from_millis(1_900));
        assert_eq!(belief.passes(soon, up(day + 1)), None, "0.9 s ahead");
        let stepped = soon.saturating_add(Duration::from_secs(3));
        assert_eq!(belief.passes(stepped, up(day + 2)), Some(2_000_000));
        assert_eq!(belief.passes(stepped.saturating_sub(YEAR), up(day + 2)), Some(-365 * 24 * 3_600 * 1_000_000));
    }

    #[test]
    fn a_login_in_1970_names_the_floor_and_the_time_since() {
        let (seen, wall) = (at("2030-06-01T00:00:00Z"), at("1970-01-01T00:00:30Z"));
        let mut belief = Belief::new(MINUTE, Some(seen), wall, up(10));
        for _ in 0..3 {
            assert_eq!(
                belief.for_login(&now(&belief, wall, up(100)), KeySlot::Current),
                seen.saturating_add(Duration::from_secs(90))
            );
        }
        belief.login_was_taken();
        assert_eq!(belief.judge(wall, up(100)), Clock::Doubtful);
        belief.set_wait(Duration::ZERO);
        assert_eq!(belief.for_login(&now(&belief, wall, up(100)), KeySlot::Current), wall, "as it is");
    }

    #[test]
    fn a_floor_from_a_clock_that_was_ahead_locks_nobody_out() {
        let (seen, wall) = (at("2038-01-19T03:14:07Z"), at("2030-06-01T00:00:00Z"));
        let mut belief = Belief::new(MINUTE, Some(seen), wall, up(0));
        // Two keys that are tried in turns, and each has its turn with either time.
        let mut named = |key| belief.for_login(&now(&belief, wall, up(60)), key);
        let named = [KeySlot::Current, KeySlot::Previous, KeySlot::Current, KeySlot::Previous].map(&mut named);
        let floor = seen.saturating_add(MINUTE);
        assert_eq!(named, [floor, floor, wall, wall]);
        belief.login_was_taken();
        assert_eq!(belief.judge(wall, up(61)), Clock::Unchecked, "the cloud's clock agrees");
        belief.passes(wall, up(61));
        assert_eq!(belief.floor(up(61)), wall);
    }

    #[test]
    fn a_floor_that_was_named_vouches_for_no_clock() {
        let (seen, wall) = (at("2030-06-01T00:00:00Z"), at("2030-05-01T00:00:00Z"));
        let mut belief = Belief::new(MINUTE, Some(seen), wall, up(0));
        assert_eq!(belief.for_login(&now(&belief, wall, up(60)), KeySlot::Current), seen.saturating_add(MINUTE));
        belief.login_was_taken();
        assert_eq!(belief.judge(wall, up(61)), Clock::Doubtful);
    }
}
