//! Against a bus of the test's own, with a systemd that says what the test wants.

use super::*;
use crate::host::fake_logind::Bus;
use crate::host::fake_systemd::{Says, Systemd, failed, job, running};

const JOB: &str = "twinagent-job-a@1.service";

fn name(text: &str) -> UnitName {
    UnitName::parse(text).expect("a name")
}

#[tokio::test]
async fn a_unit_is_read_as_systemd_tells_it() {
    let bus = Bus::start();
    let said = Says { said: "half\ndone".to_owned(), job: 7, ..running() };
    let core = failed("core-dump", (3, 11));
    let _systemd = Systemd::start(&bus.address(), &[(JOB, said), ("twinagent-job-a@2.service", core)]).await;
    let services = Services::connect(&bus.address()).await.expect("a bus");
    let unit = services.find(&name(JOB)).await.expect("an answer").expect("it is loaded");
    let state = services.state(&unit).await.expect("a state");
    assert_eq!((state.active, state.kind.as_str(), state.remains), (Active::Changing, "oneshot", true));
    assert_eq!((state.said.as_str(), state.has_job, state.is_settled()), ("half done", true, false));
    assert_eq!((state.invocation.as_str(), state.exit), ("01".repeat(16).as_str(), None));
    let unit = services.load(&name("twinagent-job-a@2.service")).await.expect("an answer");
    let state = services.state(&unit).await.expect("a state");
    assert_eq!(
        (state.active, state.result.as_str(), state.exit),
        (Active::Failed, "core-dump", Some(Exit::Signal(11)))
    );
    assert!(state.is_settled());
    assert!(services.find(&name("twinagent-job-a@3.service")).await.expect("an answer").is_none());
    assert_eq!(services.services_named("twinagent-job-").await.expect("a list").len(), 2);
    services.own().await.expect_err("this unit it does not have");
}

#[tokio::test]
async fn each_kind_of_refusal_is_told_from_others() {
    let bus = Bus::start();
    let says = |refusal| Says { refusal: Some(refusal), ..job() };
    let units = [("a.service", says("refused")), ("b.service", says("denied")), ("c.service", says("broken"))];
    let _systemd = Systemd::start(&bus.address(), &units).await;
    let services = Services::connect(&bus.address()).await.expect("a bus");
    for unit in ["a.service", "b.service"] {
        let unit = services.load(&name(unit)).await.expect("a unit");
        assert_eq!(services.start(&unit).await, Err(CallError::Refused("not you".to_owned())));
    }
    let unit = services.load(&name("c.service")).await.expect("a unit");
    assert_eq!(services.restart(&unit).await, Err(CallError::Failed("it is broken".to_owned())));
    drop(bus);
    assert!(matches!(services.stop(&unit).await, Err(CallError::Lost(_))));
}

#[tokio::test]
async fn a_bus_without_systemd_and_no_bus_at_all_are_the_same() {
    let bus = Bus::start();
    assert!(matches!(Services::connect(&bus.address()).await, Err(CallError::Lost(_))));
    let address = bus.address();
    drop(bus);
    assert!(matches!(Services::connect(&address).await, Err(CallError::Lost(_))));
}

#[tokio::test]
async fn changes_are_heard_and_so_is_the_end_of_systemd_and_of_the_bus() {
    let bus = Bus::start();
    let systemd = Systemd::start(&bus.address(), &[(JOB, running()), ("b.service", running())]).await;
    let services = Services::connect(&bus.address()).await.expect("a bus");
    let unit = services.load(&name(JOB)).await.expect("a unit");
    let mut changes = services.changes(&unit).await.expect("signals");
    let other = services.load(&name("b.service")).await.expect("a unit");
    let mut others = services.changes(&other).await.expect("signals");
    // More than any queue holds, and answers to calls come all the same.
    for number in 0..200 {
        systemd.says(JOB, |says| says.said = number.to_string()).await;
    }
    assert!(services.state(&unit).await.is_ok());
    changes.next().await.expect("a change");
    systemd.ends(JOB, "dependency", |says| says.active = "inactive").await;
    while changes.job().is_none() {
        changes.next().await.expect("another one");
    }
    assert_eq!((changes.job().as_deref(), others.job()), (Some("dependency"), None));
    drop(systemd);
    assert!(changes.next().await.is_err() || changes.next().await.is_err(), "systemd is gone");
    drop(bus);
    assert!(others.next().await.is_err(), "the bus is gone");
}
