//! Taking the package away: what stops, what stays, what is gone, and that it can come back.

use crate::harness::{Device, Package, Suite};

/// Prints the processes of the agent.
const PROCESSES: &str = "find /proc -maxdepth 1 -user twinagent";

#[test]
fn what_is_removed_stops_and_comes_back_as_the_same_device_and_what_is_purged_is_gone() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "");
        let Device { machine, cloud } = &device;
        let package = machine.bring(&Package::under_test());

        assert_ne!(machine.sh(PROCESSES), "");
        machine.order(["apt-get", "remove", "--yes", "twinagent"]).done();
        assert!(!cloud.is_connected());
        let told = machine.order(["systemctl", "is-active", "twinagent.service", "twinagent-reboot.path"]).run();
        assert_eq!(told.out.trim(), "inactive\ninactive", "{told:?}");
        assert_eq!(machine.sh(PROCESSES), "");
        assert_eq!(machine.sh("systemctl --failed --no-legend"), "");

        machine.order(["apt-get", "install", "--yes", &package]).done();
        cloud.wait_for_login(1);
        cloud.send("echo/e-1", "1");
        cloud.wait_for_answer("e-1", 200);

        machine.order(["apt-get", "purge", "--yes", "twinagent"]).done();
        machine.sh(&format!("rm {package}"));
        // The folders of drop-ins are this harness's; what debconf and apt note down of every package is theirs.
        let left = machine.sh("find / -xdev -name '*twinagent*' -not -path '/proc/*' -not -path '/sys/*' \
             -not -path '/etc/systemd/system/twinagent*.service.d'; find /run /tmp /var/tmp -name '*twinagent*'");
        assert_eq!(left, "", "left after purge");
        assert!(
            machine.sh("getent passwd twinagent").contains("nologin"),
            "the user stays, so that nobody gets its number"
        );
        assert_eq!(machine.sh("systemctl --failed --no-legend"), "");

        let package = machine.bring(&Package::under_test());
        let logins = cloud.logins();
        machine.order(["apt-get", "install", "--yes", &package]).done();
        assert!(machine.sh("twinagent status").starts_with("not configured"));
        assert!(machine.order(["twinagent", "pubkey"]).run().code != 0, "the key is gone");
        assert_eq!(cloud.logins(), logins);
    }
}
