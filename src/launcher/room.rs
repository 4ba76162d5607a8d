//! Which runs may be beside each other, by the classes of their manifests.
//!
//! The agent keeps to them by itself. But programs of an agent that has gone are still ending when the next one asks, and one
//! that was taken over keeps to nothing.

use tokio::sync::watch;

use crate::model::command::{Class, Method, MethodSpec};

/// All runs that go on, until nothing is left of their programs.
#[derive(Debug)]
pub(super) struct Room {
    runs: watch::Sender<Vec<Occupant>>,
}

/// A run that goes on. Dropping it lets others in.
#[derive(Debug)]
pub(super) struct Stay<'a> {
    room: &'a Room,
    number: u64,
}

#[derive(Debug)]
struct Occupant {
    number: u64,
    method: Method,
    is_alone: bool,
    is_harmless: bool,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { runs: watch::Sender::new(Vec::new()) }
    }

    /// Returns when there is room for a run of this method. No other run has the same number. May be dropped without loss.
    pub(super) async fn enter(&self, spec: &MethodSpec, number: u64) -> Stay<'_> {
        let mut changes = self.runs.subscribe();
        loop {
            let enters = |runs: &mut Vec<Occupant>| {
                let fits = has_room(runs, spec);
                if fits {
                    runs.push(Occupant {
                        number,
                        method: spec.name.clone(),
                        is_alone: spec.class == Class::Exclusive,
                        is_harmless: spec.harmless,
                    });
                }
                fits
            };
            if self.runs.send_if_modified(enters) {
                return Stay { room: self, number };
            }
            // Fails if the room is gone, which is borrowed here.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.room.runs.send_modify(|runs| runs.retain(|run| run.number != self.number));
    }
}

/// As the agent has it (`Runs::has_room_for`).
fn has_room(runs: &[Occupant], spec: &MethodSpec) -> bool {
    if !spec.harmless && runs.iter().any(|run| run.is_alone) {
        return false;
    }
    let same = runs.iter().filter(|run| run.method == spec.name).count();
    match spec.class {
        Class::Exclusive => runs.iter().all(|run| run.is_harmless),
        Class::Serial(_) => same == 0,
        Class::Parallel(most) => same < most,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn spec(name: &str, class: Class, harmless: bool) -> MethodSpec {
        MethodSpec { harmless, class, ..MethodSpec::new(Method::parse(name).expect("a method")) }
    }

    #[test]
    fn each_class_has_its_room() {
        let room = Room::new();
        let enter = |spec: &MethodSpec, number| room.enter(spec, number).now_or_never();
        let (serial, alone) = (spec("serial", Class::Serial(8), false), spec("alone", Class::Exclusive, false));
        let (two, look) = (spec("two", Class::Parallel(2), false), spec("look", Class::Parallel(4), true));
        let first = enter(&serial, 1).expect("the room is empty");
        assert!(enter(&serial, 2).is_none() && enter(&alone, 3).is_none());
        let (one, other) = (enter(&two, 4).expect("beside"), enter(&two, 5).expect("two of them"));
        assert!(enter(&two, 6).is_none());
        drop(other);
        let other = enter(&two, 7).expect("room again");
        drop((first, one, other));
        let look_on = enter(&look, 8).expect("room");
        let alone_now = enter(&alone, 9).expect("nothing but what is harmless");
        assert!(enter(&serial, 10).is_none() && enter(&two, 11).is_none());
        let _look = enter(&look, 12).expect("harmless");
        drop((alone_now, look_on));
        assert!(enter(&serial, 13).is_some());
    }
}
