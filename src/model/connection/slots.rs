//! Which of the device's keys to log in with.
//!
//! The current one, until it is refused for who we are; then the others, quickly, for the cloud may know only one of them
//! while keys are changed. Knows slots, never keys.

use super::super::device_key::KeySlot;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    /// Those that can be used, in the order in which they are tried; never empty. The next key comes before the previous one:
    /// a cloud that has dropped the current key is more likely to have been given the one that follows.
    usable: Vec<KeySlot>,
    using: KeySlot,
    /// Refused since the last login or the last slow wait.
    refused: Vec<KeySlot>,
}

impl Default for Slots {
    fn default() -> Self {
        Self::new(true, &[])
    }
}

impl Slots {
    /// Begins with the first key that can be used. Where there is none, the try with the current one tells what is wrong.
    pub(super) fn new(has_current: bool, others: &[KeySlot]) -> Self {
        let is_usable = |slot: &KeySlot| match slot {
            KeySlot::Current => has_current || others.is_empty(),
            other => others.contains(other),
        };
        let usable: Vec<KeySlot> = KeySlot::ALL.into_iter().filter(is_usable).collect();
        let using = usable.first().copied().unwrap_or_default();
        Self { usable, using, refused: Vec::new() }
    }

    pub(super) fn using(&self) -> KeySlot {
        self.using
    }

    pub(super) fn worked(&mut self) {
        self.refused.clear();
    }

    /// A login with this one was refused. True: another one is to be tried, quickly; false: all of them have been, and the
    /// round begins anew after a slow wait.
    pub(super) fn was_refused(&mut self, slot: KeySlot) -> bool {
        self.refused.push(slot);
        let next = self.usable.iter().copied().find(|slot| !self.refused.contains(slot));
        if next.is_none() {
            self.refused.clear();
        }
        self.using = next.or(self.usable.first().copied()).unwrap_or_default();
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeySlot::{Current, Next, Previous};

    #[test]
    fn all_are_tried_in_order_and_then_the_round_begins_anew() {
        let mut slots = Slots::new(true, &[Previous, Next]);
        let round: Vec<(KeySlot, bool)> = (0..6).map(|_| (slots.using(), slots.was_refused(slots.using()))).collect();
        let once = [(Current, true), (Next, true), (Previous, false)];
        assert_eq!(round, [once, once].concat());
    }

    #[test]
    fn the_one_that_worked_stays_until_it_is_refused_itself() {
        let mut slots = Slots::new(true, &[Next]);
        assert!(slots.was_refused(Current));
        slots.worked();
        assert_eq!(slots.using(), Next);
        assert!(slots.was_refused(Next), "the current one may be good again");
        assert_eq!(slots.using(), Current);
    }

    #[test]
    fn a_current_key_that_cannot_be_used_is_passed_over_if_there_is_another() {
        assert_eq!(Slots::new(false, &[Previous]).using(), Previous);
        assert_eq!(Slots::new(false, &[]).using(), Current);
    }

    #[test]
    fn one_that_was_refused_after_the_keys_changed_is_not_taken_for_the_first_of_them() {
        let mut slots = Slots::new(true, &[Next]);
        assert!(slots.was_refused(Next));
        assert_eq!(slots.using(), Current);
    }
}
