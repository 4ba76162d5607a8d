//! Taking the package away: what stops, what stays, what is gone, and that it can come back.

use crate::harness::{Device, Machine, Package, Suite, eventually};

/// Prints the processes of the agent and of its programs.
const PROCESSES: &str = "find /proc -maxdepth 1 '(' -user twinagent -o -user twinagent-handlers ')'";
const UNITS: [&str; 5] = [
    "twinagent.service",
    "twinagent-handlers.socket",
    "twinagent-handlers.service",
    "twinagent-logs.socket",
    "twinagent-reboot.path",
];

#[test]
fn what_is_removed_stops_and_comes_back_as_the_same_device_and_what_is_purged_is_gone() {
    for suite in Suite::ALL {
        let device = Device::online(suite, "");
        let Device { machine, cloud } = &device;
        let package = machine.bring(&Package::under_test());

        assert_ne!(machine.sh(PROCESSES), "");
        machine.order(["apt-get", "remove", "--yes", "twinagent"]).done();
        eventually("the cloud sees it go", || (!cloud.is_connected()).then_some(()));
        let told = machine.order(["systemctl", "is-active"].into_iter().chain(UNITS)).run();
        assert_eq!(told.out, "inactive\n".repeat(UNITS.len()), "{told:?}");
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
            machine.sh("getent passwd twinagent twinagent-handlers").matches("nologin").count() == 2,
            "the users stay, so that nobody gets their numbers"
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

#[test]
fn a_purge_follows_links_to_what_is_ours_and_takes_nothing_else() {
    for suite in Suite::ALL {
        let mut machine = Machine::installed(suite);
        machine.boot();
        // All of it on another disk: state by a mount, since systemd takes no link there.
        machine.sh(
            "twinagent keygen; cd /etc/twinagent; touch conf.d/10-mine.toml; systemctl stop twinagent; mkdir /data
             mv /var/lib/twinagent /data/state; mkdir /var/lib/twinagent; mount --bind /data/state /var/lib/twinagent
             mv /etc/twinagent /data/agent; ln -s /data/agent /etc/twinagent
             mv /data/agent/keys /data/keys; ln -s /data/keys /data/agent/keys
             touch /data/keys/foreign.key /data/agent/foreign; systemctl start twinagent",
        );
        assert!(machine.sh("ls /data/state /data/keys").contains("device.key"));
        let purge = || machine.order(["dpkg", "--purge", "twinagent"]).run();
        let told = purge();
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{told:?}");
        let left = "/data\n/data/agent\n/data/agent/foreign\n/data/keys\n/data/keys/foreign.key\n/data/state";
        assert_eq!(machine.sh("find /data | sort; umount /var/lib/twinagent"), left);
        assert_ne!(machine.order(["test", "-L", "/etc/twinagent"]).run().code, 0);

        // Where somebody else could have put something, or nothing is ours, it stays, and that is said.
        for make in
            ["cp /usr/share/twinagent/twinagent.toml /data/agent; chown daemon /data/agent", "mkdir /data/agent/conf.d"]
        {
            let package = machine.bring(&Package::under_test());
            machine.order(["dpkg", "--install", &package]).done();
            machine.sh(&format!(
                "rm -r /etc/twinagent /data/agent; mkdir /data/agent; {make}; ln -s /data/agent /etc/twinagent"
            ));
            let before = machine.sh("find /data/agent");
            let told = purge();
            let words = "twinagent: /etc/twinagent is a link; what is in /data/agent stays.";
            assert!(told.code == 0 && told.err.contains(words), "{told:?}");
            assert_eq!(machine.sh("find /data/agent"), before);
            assert_ne!(machine.order(["test", "-L", "/etc/twinagent"]).run().code, 0);
        }
    }
}
