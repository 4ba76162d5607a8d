//! How many connections there may be: of one user, of all, and of programs that serve methods apart from the others.
//!
//! A program that serves stays for as long as it lives. Counted with the others, a few of them would keep their user from
//! asking anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    per_user: usize,
    /// Of all users but root and the daemon's own, so that descriptors are left for the rest of the daemon.
    of_others: usize,
}

/// For calls: a person with some terminals and programs with one each.
pub(super) const CALLING: Limits = Limits { per_user: 16, of_others: 64 };
/// For programs that serve methods, each with a connection that stays.
pub(super) const SERVING: Limits = Limits { per_user: 32, of_others: 64 };

impl Limits {
    /// Of all users: root and the daemon's own are two.
    pub(super) const fn most(self) -> usize {
        self.of_others + 2 * self.per_user
    }
}

/// Who has how many connections of one kind.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    of_others: Arc<Semaphore>,
    of_user: BTreeMap<u32, Arc<Semaphore>>,
}

/// What one user may have of them.
#[derive(Clone, Debug)]
pub(super) struct Share {
    limits: Limits,
    own: Arc<Semaphore>,
    of_others: Option<Arc<Semaphore>>,
}

/// A place is given back when this is dropped.
type Place = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// The place of one connection, first for calls.
#[derive(Debug)]
pub(super) struct Seat {
    calling: Share,
    serving: Share,
    place: Place,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, of_others: Arc::new(Semaphore::new(limits.of_others)), of_user: BTreeMap::new() }
    }

    pub(super) fn share(&mut self, user: u32, is_trusted: bool) -> Share {
        // Whoever has a place, or might still take one, holds on to it.
        self.of_user.retain(|_, places| Arc::strong_count(places) > 1);
        let own = self.of_user.entry(user).or_insert_with(|| Arc::new(Semaphore::new(self.limits.per_user))).clone();
        Share { limits: self.limits, own, of_others: (!is_trusted).then(|| self.of_others.clone()) }
    }
}

impl Share {
    /// A place, or the limit that was reached.
    fn give(&self) -> Result<Place, usize> {
        let own = self.own.clone().try_acquire_owned().map_err(|_| self.limits.per_user)?;
        let of_others =
            self.of_others.clone().map(|places| places.try_acquire_owned().map_err(|_| self.limits.of_others));
        Ok((own, of_others.transpose()?))
    }
}

impl Seat {
    /// A place for calls, or the limit that was reached.
    pub(super) fn take(calling: Share, serving: Share) -> Result<Self, usize> {
        let place = calling.give()?;
        Ok(Self { calling, serving, place })
    }

    /// From now on it counts among those that serve; else the limit that was reached, and nothing has changed.
    pub(super) fn serves(&mut self) -> Result<(), usize> {
        self.place = self.serving.give()?;
        Ok(())
    }

    /// From now on it counts among the others again, if there is room for it.
    pub(super) fn calls(&mut self) -> Result<(), usize> {
        self.place = self.calling.give()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_the_places_of_another_and_nobody_those_of_root() {
        let Limits { per_user, of_others } = CALLING;
        let mut places = Places::new(CALLING);
        let mut taken = Vec::new();
        for user in 1000..1004 {
            taken.extend((0..per_user).map(|_| places.share(user, false).give().expect("a place of its own")));
            assert_eq!(places.share(user, false).give().expect_err("all are taken"), per_user);
        }
        assert_eq!(places.share(1004, false).give().expect_err("all of all users are taken"), of_others);
        taken.extend((0..per_user).map(|_| places.share(0, true).give().expect("root has its own")));
        assert_eq!(places.share(0, true).give().expect_err("but not for ever"), per_user);
        drop(taken.remove(0));
        taken.push(places.share(1004, false).give().expect("the one that was given back"));
        assert!(places.share(1000, false).give().is_err(), "it is taken again");
        taken.clear();
        drop(places.share(7, false).give().expect("a place"));
        places.share(8, false);
        assert_eq!(places.of_user.len(), 1, "who has none is forgotten");
    }

    #[test]
    fn who_serves_leaves_its_place_to_those_who_call() {
        let (mut calling, mut serving) = (Places::new(CALLING), Places::new(SERVING));
        let mut seat = |user| Seat::take(calling.share(user, false), serving.share(user, false));
        let mut programs = Vec::new();
        for _ in 0..SERVING.per_user {
            let mut program = seat(1000).expect("a place");
            program.serves().expect("a place among those that serve");
            programs.push(program);
        }
        let mut callers: Vec<Seat> = (0..CALLING.per_user).map(|_| seat(1000).expect("a place for calls")).collect();
        assert_eq!(callers[0].serves().expect_err("so many serve already"), SERVING.per_user);
        assert_eq!(seat(1000).expect_err("it has kept its place"), CALLING.per_user);
        assert_eq!(programs[0].calls().expect_err("no place for calls is left"), CALLING.per_user);
        callers.pop();
        programs[0].calls().expect("the one that was left");
        callers[0].serves().expect("and the other");
    }
}
