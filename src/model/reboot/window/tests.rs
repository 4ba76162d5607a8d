//! Windows against a plain reading of their words, minute by minute, in zones whose clocks jump in every way.

use proptest::prelude::*;

use super::*;

/// Zones by their rules (POSIX.1-2017, 8.3), so that no file is needed.
fn zones(name: &str) -> Result<TimeZone, String> {
    let rules = match name {
        "UTC" => return Ok(TimeZone::UTC),
        // One hour forward at 02:00, one back at 03:00.
        "Europe/Berlin" => "CET-1CEST,M3.5.0,M10.5.0/3",
        // At midnight: this day has no 00:30, and another one has two.
        "America/Havana" => "CST5CDT,M3.2.0/0,M11.1.0/1",
        // Half an hour, in the south.
        "Australia/Lord_Howe" => "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "Asia/Kathmandu" => "<+0545>-5:45",
        _ => return Err("is not known on this machine".to_owned()),
    };
    TimeZone::posix(rules).map_err(|error| error.to_string())
}

fn window(text: &str) -> Window {
    Window::parse(text, zones).expect(text)
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Whether the words mean this moment: read off a clock on the wall there.
fn means(window: &Window, moment: Timestamp) -> bool {
    let local = window.rules.to_datetime(moment.instant());
    let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).expect("a minute of the day");
    let day = usize::try_from(local.weekday().to_monday_zero_offset()).expect("a day of the week");
    if window.from < window.to {
        window.days[day] && (window.from..window.to).contains(&minute)
    } else {
        window.days[day] && minute >= window.from || window.days[(day + 6) % 7] && minute < window.to
    }
}

fn next(text: &str, spread: u64, seed: u64, earliest: &str, now: &str) -> String {
    let windows = Windows { list: vec![window(text)], spread: Duration::from_secs(spread), seed };
    windows.next(at(earliest), at(now)).to_string().replace(".000000Z", "Z")
}

#[test]
fn a_window_is_waited_for_and_used() {
    let text = "Sat,Sun 02:00-04:00 Europe/Berlin";
    for (now, expected) in [
        ("2026-11-20T12:00:00Z", "2026-11-21T01:00:00Z"),
        ("2026-11-21T00:59:59Z", "2026-11-21T01:00:00Z"),
        ("2026-11-21T01:00:00Z", "2026-11-21T01:00:00Z"),
        ("2026-11-21T02:59:59Z", "2026-11-21T02:59:59Z"),
        ("2026-11-21T03:00:00Z", "2026-11-22T01:00:00Z"),
        ("2026-11-22T03:00:00Z", "2026-11-28T01:00:00Z"),
    ] {
        assert_eq!(next(text, 0, 0, now, now), expected, "{now}");
    }
    let always = Windows::default();
    assert_eq!(always.next(at("2026-11-21T00:00:00Z"), at("2026-11-22T00:00:00Z")), at("2026-11-22T00:00:00Z"));
    assert_eq!(always.next(at("2026-11-23T00:00:00Z"), at("2026-11-22T00:00:00Z")), at("2026-11-23T00:00:00Z"));
}

#[test]
fn windows_go_over_midnight_over_the_week_and_into_each_other() {
    let night = "Sun 22:00-02:00 UTC";
    assert_eq!(next(night, 0, 0, "2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"), "2026-11-22T22:00:00Z");
    assert_eq!(next(night, 0, 0, "2026-11-23T01:59:59Z", "2026-11-23T01:59:59Z"), "2026-11-23T01:59:59Z");
    assert_eq!(next(night, 0, 0, "2026-11-23T02:00:00Z", "2026-11-23T02:00:00Z"), "2026-11-29T22:00:00Z");
    assert_eq!(window("Fri-Mon 00:00-24:00 UTC").closes(at("2026-11-20T00:00:00Z")), at("2026-11-24T00:00:00Z"));
    assert_eq!(window("Sat-Tue 12:00-12:01 UTC").opens(at("2026-11-18T00:00:00Z")), at("2026-11-21T12:00:00Z"));
    let never = window("00:00-24:00 UTC").closes(at("2026-11-20T00:00:00Z"));
    assert!(never > at("2050-01-01T00:00:00Z"), "{never}");
    let many =
        Windows { list: vec![window("Mon 02:00-03:00 UTC"), window("Mon 01:00-02:30 UTC")], ..Windows::default() };
    for (now, expected) in [("00:00", "01:00"), ("02:45", "02:45")] {
        let (now, expected) = (format!("2026-11-23T{now}:00Z"), format!("2026-11-23T{expected}:00Z"));
        assert_eq!(many.next(at(&now), at(&now)), at(&expected));
    }
}

#[test]
fn skipped_hours_are_no_time_and_repeated_hours_are_twice_the_time() {
    let berlin = window("02:00-03:00 Europe/Berlin");
    // 28 March 2027: 02:00 is followed by 03:00. That night has no such hour.
    assert_eq!(berlin.opens(at("2027-03-27T02:00:00Z")), at("2027-03-29T00:00:00Z"));
    // 31 October 2027: 03:00 is followed by 02:00, so the window is open for two hours.
    assert_eq!(berlin.opens(at("2027-10-30T12:00:00Z")), at("2027-10-31T00:00:00Z"));
    assert_eq!(berlin.closes(at("2027-10-31T00:00:00Z")), at("2027-10-31T02:00:00Z"));
    // Or opens twice.
    let quarter = window("02:15-02:30 Europe/Berlin");
    assert_eq!(quarter.opens(at("2027-10-31T00:30:00Z")), at("2027-10-31T01:15:00Z"));
    // One that reaches over the gap is an hour shorter.
    let wide = window("01:00-04:00 Europe/Berlin");
    assert_eq!(wide.opens(at("2027-03-27T12:00:00Z")), at("2027-03-28T00:00:00Z"));
    assert_eq!(wide.closes(at("2027-03-28T00:00:00Z")), at("2027-03-28T02:00:00Z"));
    // A day without midnight begins at 01:00, and yesterday's night goes on until then and no further.
    let havana = window("Sun 00:00-02:00 America/Havana");
    assert_eq!(havana.opens(at("2027-03-13T12:00:00Z")), at("2027-03-14T05:00:00Z"));
    assert_eq!(havana.closes(at("2027-03-14T05:00:00Z")), at("2027-03-14T06:00:00Z"));
}

#[test]
fn a_spread_keeps_devices_apart_and_a_device_at_its_place() {
    let text = "Sat 02:00-04:00 Europe/Berlin";
    let asked = "2026-11-20T12:00:00Z";
    let mut places: Vec<String> = (0..200).map(|seed| next(text, 3_600, seed, asked, asked)).collect();
    assert_eq!(next(text, 3_600, 7, asked, "2026-11-21T00:59:00Z"), places[7], "asked again later, it is the same");
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 200);
    let (first, last) = (places[0].as_str(), places[199].as_str());
    assert!(("2026-11-21T01:00".."2026-11-21T01:03").contains(&first) && last > "2026-11-21T01:57", "{first} {last}");
    assert!(last < "2026-11-21T02:00", "an hour after it opened at most: {last}");
    // Longer than the window: still inside of it.
    for seed in 0..200 {
        assert!(next(text, 86_400, seed, asked, asked).as_str() < "2026-11-21T03:00", "device {seed}");
    }
    // Asked for in the middle of it, they are kept apart as well.
    let middle = "2026-11-21T02:00:00Z";
    let late: Vec<String> = (0..200).map(|seed| next(text, 1_800, seed, middle, middle)).collect();
    assert!(late.iter().filter(|place| place.as_str() > "2026-11-21T02:15").count() > 50);
    assert!(late.iter().all(|place| place.as_str() < "2026-11-21T02:30"));
    let (other, week) = (places[7].clone(), "2026-11-27T12:00:00Z");
    assert_ne!(next(text, 3_600, 7, week, week).split_at(11).1, other.split_at(11).1, "another window, another place");
}

#[test]
fn a_clock_that_was_far_off_costs_no_time() {
    let windows = Windows { list: vec![window("02:00-02:01 UTC"); 32], spread: DAY, seed: 1 };
    let (first, last) = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
    for (earliest, now) in [(first, at("2026-11-22T00:00:00Z")), (first, last), (last, first), (first, first)] {
        assert!(windows.next(earliest, now) >= now.max(earliest));
    }
}

#[test]
fn what_is_no_window_says_why() {
    for (text, words) in [
        ("", "days, hours and a zone"),
        ("always", "days, hours and a zone"),
        ("Sat 02:00 Europe/Berlin", "days, hours and a zone"),
        ("Sat 02:00-04:00 Europe/Berlin please", "days, hours and a zone"),
        ("Sat 02:00-04:00", "names no time zone"),
        ("02:00-04:00", "names no time zone"),
        ("Sut 02:00-04:00 UTC", "`Sut` is no day"),
        ("Sat, 02:00-04:00 UTC", "`` is no day"),
        ("Mon-Fri-Sun 02:00-04:00 UTC", "`Fri-Sun` is no day"),
        ("Sat 2:00-04:00 UTC", "`2:00` is no time of day"),
        ("Sat 02:60-04:00 UTC", "`02:60` is no time of day"),
        ("Sat 02:00-24:01 UTC", "`24:01` is no time of day"),
        ("Sat 24:00-04:00 UTC", "`24:00` is no time of day"),
        ("Sat 02:00-02:00 UTC", "ends when it begins"),
        ("Sat 02:00-04:00 Mars/Base", "the zone `Mars/Base` is not known"),
    ] {
        let error = Window::parse(text, zones).expect_err(text).to_string();
        assert!(error.starts_with("not a window: ") && error.contains(words), "{text}: {error}");
    }
}

#[test]
fn what_is_shown_reads_back() {
    for (text, shown) in [
        ("sat,SUN 02:00-04:00 Europe/Berlin", "Sat,Sun 02:00-04:00 Europe/Berlin"),
        ("Fri-Mon 22:00-06:30 UTC", "Mon,Fri,Sat,Sun 22:00-06:30 UTC"),
        ("  00:00-24:00   UTC ", "00:00-24:00 UTC"),
    ] {
        assert_eq!(window(text).to_string(), shown);
        assert_eq!(window(shown), window(text));
    }
}

fn windows() -> impl Strategy<Value = Window> {
    let zone =
        prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"]);
    (prop::array::uniform7(any::<bool>()), 0..1_440_u16, 1..=1_440_u16, zone)
        .prop_filter("some day and some time", |(days, from, to, _)| days.contains(&true) && from != to)
        .prop_map(|(days, from, to, zone)| Window {
            days,
            from,
            to,
            zone: zone.to_owned(),
            rules: zones(zone).expect("a zone"),
        })
}

/// Moments of two years, half of them around the changes of the clocks.
fn moments() -> impl Strategy<Value = Timestamp> {
    let changes = ["2027-03-28T01:00:00Z", "2027-10-31T01:00:00Z", "2027-03-14T05:00:00Z", "2027-11-07T05:00:00Z"];
    let south = ["2027-10-02T15:30:00Z", "2027-04-03T15:00:00Z"];
    let change = prop::sample::select([&changes[..], &south[..]].concat());
    prop_oneof![
        (change, -180_000_i64..180_000).prop_map(|(change, seconds)| (at(change).unix_seconds() + seconds) * 1_000_000),
        (1_798_761_600_i64..1_861_920_000).prop_map(|seconds| seconds * 1_000_000 + 123_456),
    ]
    .prop_map(Timestamp::from_micros)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_opens_and_closes_when_its_words_say_so(window in windows(), from in moments()) {
        let opens = window.opens(from);
        prop_assert!(means(&window, opens), "{window} is not open at {opens}");
        let closes = window.closes(opens);
        prop_assert!(closes > opens);
        // Nothing between is missed: minutes are the finest that words say, and changes of clocks lie on them.
        let minutes = |from: Timestamp, to: Timestamp| {
            let first = from.unix_micros().div_euclid(60_000_000) * 60_000_000;
            (1..).map(move |minute| Timestamp::from_micros(first + minute * 60_000_000)).take_while(move |at| *at < to)
        };
        if opens > from {
            prop_assert!(!means(&window, from));
        }
        for minute in minutes(from, opens) {
            prop_assert!(!means(&window, minute), "{window} is open at {minute}, before {opens}");
        }
        let soon = closes.min(opens.saturating_add(LOOK_BACK));
        for minute in minutes(opens, soon) {
            prop_assert!(means(&window, minute), "{window} is not open at {minute}, before {closes}");
        }
        if soon == closes {
            prop_assert!(!means(&window, closes), "{window} is still open at {closes}");
        }
    }

    #[test]
    fn a_reboot_is_always_in_a_window_and_never_moves(
        list in prop::collection::vec(windows(), 1..4),
        spread in 0..100_000_u64,
        seed: u64,
        earliest in moments(),
        later in 0..2_000_000_u64,
    ) {
        let windows = Windows { list, spread: Duration::from_secs(spread.min(86_400)), seed };
        let now = earliest.saturating_add(Duration::from_secs(later));
        let due = windows.next(earliest, now);
        prop_assert!(due >= now);
        prop_assert!(windows.list.iter().any(|window| means(window, due)), "{due} is in no window");
        prop_assert_eq!(windows.next(earliest, due), due, "once it is there, it may be done");
        let between = Timestamp::from_micros(i64::midpoint(now.unix_micros(), due.unix_micros()));
        prop_assert_eq!(windows.next(earliest, between), due, "waiting does not move it");
    }

    #[test]
    fn no_text_is_a_panic(text in "([a-zA-Z,-]{0,8} )?[0-9:-]{0,12}( [a-zA-Z/]{0,8})?|\\PC{0,30}") {
        if let Ok(window) = Window::parse(&text, |_| Ok(TimeZone::UTC)) {
            prop_assert_eq!(Window::parse(&window.to_string(), |_| Ok(TimeZone::UTC)), Ok(window));
        }
    }
}
