//! On a bus of the test's own, with a logind that says what the test wants.

use std::fs;

use super::*;
use crate::host::fake_logind::{Bus, FREE, HELD, Logind as Fake, Says};
use crate::model::command::{CommandId, DeviceId, Key};

struct Machine {
    folder: tempfile::TempDir,
    bus: Bus,
}

impl Machine {
    fn new() -> Self {
        Self { folder: tempfile::TempDir::new().expect("a folder"), bus: Bus::start() }
    }

    async fn shutdown(&self, mode: Mode) -> (u16, Value) {
        let vetoes = ["run", "etc"].map(|folder| self.folder.path().join(folder));
        let method = Shutdown { bus: self.bus.address(), mode, vetoes };
        let key = Key { target: DeviceId::parse("d").expect("an id"), id: CommandId::parse("1").expect("an id") };
        let command = Command { key, method: method.spec().name, payload: Value::Null };
        let outcome = method.run(&command, Context::alone()).await;
        (outcome.status.0, outcome.payload)
    }

    /// Read only where its owner is root, as the tests are.
    fn veto(&self, folder: &str, text: &str) {
        let folder = self.folder.path().join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("night.toml"), text).expect("written");
    }
}

#[tokio::test]
async fn it_is_answered_once_logind_has_taken_it_on() {
    let machine = Machine::new();
    let mut logind = Fake::start(&machine.bus.address(), FREE).await;
    let answered = machine.shutdown(Mode::Auto).await;
    assert_eq!(answered, (200, json!({ "state": "poweringOff" })));
    assert_eq!(logind.power_offs.try_recv(), Ok(false), "without a dialogue, and nothing begins before");
    assert!(logind.reboots.try_recv().is_err());
}

#[tokio::test]
async fn whoever_holds_it_back_is_named_and_heeded() {
    let machine = Machine::new();
    let mut logind = Fake::start(&machine.bus.address(), HELD).await;
    let (status, payload) = machine.shutdown(Mode::Logind).await;
    assert_eq!((status, &payload["heldBy"]), (423, &json!(["inhibitor"])), "{payload}");
    assert_eq!(payload["inhibitors"], json!([{ "who": "apt", "why": "package upgrade" }]));
    machine.veto("etc", "reason = \"harvest\"\n");
    for mode in [Mode::Logind, Mode::Simulate] {
        let (status, payload) = machine.shutdown(mode).await;
        assert_eq!((status, &payload["vetoes"][0]["reason"]), (423, &json!("harvest")), "{payload}");
    }
    machine.veto("etc", "reason = \"over\"\nexpires = \"2026-01-01T00:00:00Z\"\n");
    logind.says.send_replace(FREE);
    assert_eq!(machine.shutdown(Mode::Logind).await.0, 200);
    assert_eq!(logind.power_offs.recv().await, Some(false), "once, and not for those that were held back");
    assert!(logind.power_offs.try_recv().is_err());
}

#[tokio::test]
async fn where_nobody_may_switch_it_off_the_answer_says_so() {
    let machine = Machine::new();
    assert_eq!(machine.shutdown(Mode::Simulate).await, (200, json!({ "simulated": true })));
    for mode in [Mode::Auto, Mode::Logind, Mode::Helper] {
        assert_eq!(machine.shutdown(mode).await.0, 503, "{mode:?}");
    }
    let mut logind = Fake::start(&machine.bus.address(), FREE).await;
    for right in ["no", "challenge", "na", "of-a-later-systemd", "Not you"] {
        logind.says.send_replace(Says { right, ..FREE });
        assert_eq!(machine.shutdown(Mode::Auto).await.0, 503, "{right}");
    }
    logind.says.send_replace(Says { locks: None, ..FREE });
    assert_eq!(machine.shutdown(Mode::Auto).await.0, 503, "not to know is not to know of none");
    assert_eq!(machine.shutdown(Mode::Helper).await.0, 503);
    tokio::time::sleep(HEARD_WITHIN * 2).await;
    assert!(logind.power_offs.try_recv().is_err());
}
