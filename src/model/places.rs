//! Best-effort answers: to commands that were never recorded, because they were refused or are harmless to repeat.
//!
//! A bounded number of places in memory. When they are full of answers that nobody has seen yet, a further one is
//! counted and dropped: whoever asks too much is told so, but not at any price.

use std::collections::VecDeque;

use serde_json::json;

use super::cloud::{Answer, Road};
use super::command::{CommandId, Outcome};
use super::now::Timestamp;

/// Refusals that may wait to be told, where nobody waits for them.
const REFUSALS: usize = 16;

/// Places in the reported document.
const IN_DOCUMENT: usize = 16;

/// Places where each answer travels by itself: as many as may be on their way.
const ON_OWN_ROAD: usize = 64;

/// Answers, refusals or not, that may wait to be sent to those who wait for them on this connection; those on their way
/// come on top. As many as there are senders of commands that were taken on.
const TO_SENDERS: usize = 64;

/// Which place, in this run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceId(u64);

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub id: PlaceId,
    pub answer: Answer,
    pub received: Timestamp,
    pub time: Timestamp,
    refusal: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    OnItsWay,
    Told,
}

impl Place {
    /// The cloud has acknowledged it.
    pub fn is_told(&self) -> bool {
        self.state == State::Told
    }
}

/// The places, oldest first.
#[derive(Clone, Debug)]
pub struct Places {
    road: Road,
    /// Each answer is for somebody who waits on this connection.
    to_senders: bool,
    list: VecDeque<Place>,
    next: u64,
    dropped: u64,
}

impl Places {
    pub fn new(road: Road) -> Self {
        Self { road, to_senders: false, list: VecDeque::new(), next: 0, dropped: 0 }
    }

    /// Those of senders that wait on this connection.
    pub fn to_senders() -> Self {
        Self { to_senders: true, ..Self::new(Road::Own) }
    }

    /// Answers travel by another road from now on; those that wait for the old one are forgotten. What is still on its way
    /// is told from whatever comes later.
    pub fn begin_anew(&mut self, road: Road) {
        self.road = road;
        self.list.clear();
    }

    /// The wall clock, by which they were noted, was set ahead by so many microseconds.
    pub fn shift_times(&mut self, by: i64) {
        for place in &mut self.list {
            place.received = place.received.shifted(by);
            place.time = place.time.shifted(by);
        }
    }

    /// Keeps an answer until it was told, or counts it if there is no room.
    pub fn add(&mut self, answer: Answer, refusal: bool, received: Timestamp, time: Timestamp) {
        // The answer to the same command, sent again, takes the place of the older one.
        if self.road != Road::Own {
            self.remove(&answer.id);
        }
        if !self.has_room_for(refusal) {
            self.dropped += 1;
            return;
        }
        let id = PlaceId(self.next);
        self.next += 1;
        self.list.push_back(Place { id, answer, received, time, refusal, state: State::Waiting });
    }

    /// Whether there is room for one more. One that was told makes room where there is none.
    fn has_room_for(&mut self, refusal: bool) -> bool {
        let limit = match self.road {
            Road::Own if self.to_senders => {
                return self.list.iter().filter(|place| place.state == State::Waiting).count() < TO_SENDERS;
            }
            Road::Own => ON_OWN_ROAD,
            Road::Reported | Road::Direct => IN_DOCUMENT,
        };
        let refusals = self.list.iter().filter(|place| place.refusal && place.state != State::Told).count();
        if self.list.len() >= limit
            && let Some(told) = self.list.iter().position(|place| place.state == State::Told)
        {
            self.list.remove(told);
        }
        self.list.len() < limit && (!refusal || refusals < REFUSALS)
    }

    /// Nobody is to be told any of it any more.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Nobody is to be told this any more.
    pub fn remove(&mut self, id: &CommandId) {
        self.list.retain(|place| place.answer.id != *id);
    }

    /// Answers that found no room, since the daemon started.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.list.iter()
    }

    /// Whether an answer waits to be sent or, in a document, to be told.
    pub fn have_more(&self) -> bool {
        self.list.iter().any(|place| place.state == State::Waiting)
    }

    /// The oldest answer that is not on its way yet; it is from now on.
    pub fn take_next(&mut self) -> Option<(PlaceId, Answer)> {
        let place = self.list.iter_mut().find(|place| place.state == State::Waiting)?;
        place.state = State::OnItsWay;
        Some((place.id, place.answer.clone()))
    }

    /// The cloud has acknowledged it.
    pub fn told(&mut self, id: PlaceId) {
        match self.road {
            Road::Own => self.list.retain(|place| place.id != id),
            Road::Reported | Road::Direct => {
                for place in self.list.iter_mut().filter(|place| place.id == id) {
                    place.state = State::Told;
                }
            }
        }
    }

    /// Gives other words to answers that nobody has seen.
    pub fn amend(&mut self, which: impl Fn(&Answer) -> bool, outcome: &Outcome) {
        for place in self.list.iter_mut().filter(|place| !place.is_told() && which(&place.answer)) {
            (place.answer.status, place.answer.payload) = (outcome.status, outcome.payload.clone());
        }
    }

    /// The cloud would not take it: it goes without its payload, or, where that has been tried, not at all.
    pub fn shorten(&mut self, id: PlaceId) {
        let short = json!({ "payloadDropped": true });
        match self.list.iter_mut().find(|place| place.id == id) {
            Some(place) if place.answer.payload != short => {
                place.answer.payload = short;
                place.state = State::Waiting;
            }
            _ => {
                self.dropped += 1;
                self.list.retain(|place| place.id != id);
            }
        }
    }

    /// It never left.
    pub fn unsent(&mut self, id: PlaceId) {
        for place in self.list.iter_mut().filter(|place| place.id == id) {
            place.state = State::Waiting;
        }
    }

    /// What was on its way when the connection ended must go again.
    pub fn lost(&mut self) {
        for place in self.list.iter_mut().filter(|place| place.state == State::OnItsWay) {
            place.state = State::Waiting;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::Status;

    #[test]
    fn what_is_on_its_way_when_the_road_changes_tells_nothing_that_came_later() {
        let at: Timestamp = "2026-11-22T00:00:00Z".parse().expect("a time");
        let id = CommandId::parse("a").expect("an id");
        let answer = Answer { id, method: None, status: Status::DONE, payload: json!(1), last: true, reply_to: None };
        let mut places = Places::new(Road::Own);
        places.add(answer.clone(), false, at, at);
        let (on_its_way, _) = places.take_next().expect("an answer");
        places.begin_anew(Road::Reported);
        places.add(answer, false, at, at);
        places.told(on_its_way);
        assert!(places.iter().count() == 1 && places.have_more());
    }
}
