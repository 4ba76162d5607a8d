//! The device's key as an encrypted credential of systemd, by the commands of README.Debian.

use crate::harness::{Device, Suite, eventually};

const UNIT: &str = "twinagent.service";
const ENCRYPTED: &str = "/etc/credstore.encrypted/twinagent.device.key";

#[test]
fn an_encrypted_key_is_used_and_a_broken_one_is_told_by_systemd() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "");
        let Device { machine, cloud } = &device;
        let drop_in = format!("/etc/systemd/system/{UNIT}.d/override.conf");
        machine.write(&drop_in, "[Service]\nLoadCredentialEncrypted=twinagent.device.key\n");
        let logins = cloud.logins();
        machine.sh(&format!(
            "systemctl daemon-reload
             install -d -m 0700 /etc/credstore.encrypted
             systemd-creds encrypt --name=twinagent.device.key /etc/twinagent/keys/device.key {ENCRYPTED}
             mv /etc/twinagent/keys/device.key /root/device.key
             systemctl restart {UNIT}"
        ));
        cloud.wait_for_login(logins);
        machine.sh("shred --remove /root/device.key");
        cloud.send("echo/e-1", "1");
        cloud.wait_for_answer("e-1", 200);

        machine.sh(&format!("mv {ENCRYPTED} /root/good; head -c 200 /root/good >{ENCRYPTED}"));
        assert_ne!(machine.order(["systemctl", "restart", UNIT]).run().code, 0);
        // Not in the moment in which it is tried again.
        eventually("systemd names the step", || {
            let told = machine.order(["systemctl", "status", UNIT]).run().out;
            let is_named = told.contains("status=243/CREDENTIALS");
            (is_named && machine.property(UNIT, "ExecMainStatus") == "243").then_some(())
        });
        let decrypt = format!("systemd-creds decrypt --name=twinagent.device.key {ENCRYPTED} /dev/null");
        let told = machine.order(["sh", "-c", &decrypt]).run();
        assert!(told.code != 0 && !told.err.is_empty(), "{told:?}");
        assert!(!told.out.contains("PRIVATE"));

        // Without the file it runs, and without a key it is not connected; with the good one back it goes on by itself.
        machine.sh(&format!("rm {ENCRYPTED}"));
        let is_active = || (machine.property(UNIT, "ActiveState") == "active").then_some(());
        eventually("the service is started again", is_active);
        let logins = cloud.logins();
        machine.sh(&format!("mv /root/good {ENCRYPTED}; {decrypt}; systemctl restart {UNIT}"));
        cloud.wait_for_login(logins);
    }
}
