//! The rule for polkit by which the agent may start, stop and restart units that are none of its own: `twinagent allow-units`
//! writes it, and it is the only list of them.
//!
//! Spells and reads the file. A file that is not exactly what would be written was changed by somebody, and is not touched.
//!
//! A list of our own beside the rule could say something else than what holds. polkit hears a name and a verb, and since
//! systemd 257 the same of a start and of a call that brings a unit with it to be run as root (`StartTransientUnit`). What
//! tells them apart for good is the unit's file: where there is one, systemd refuses such a call. So the rule looks for it
//! before it says yes to a start or a restart.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::unit_name::UnitName;

/// The most units of a list.
pub const MOST: usize = 256;

/// Where systemd finds the files of units that somebody has installed, or that it has made of other files, the first before
/// the others (systemd.unit(5), table 1). Not those of units that were only described in a call (`/run/systemd/transient`),
/// nor where such calls leave what they change (`system.control`).
pub const FOLDERS: [&str; 10] = [
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// The user that the agent runs as.
const USER: &str = "twinagent";

const BEGIN: &str = "    var units = [\n";
const END: &str = "    ];\n";

/// The units of a file that this program has written; the error is for people.
pub fn units(text: &str) -> Result<BTreeSet<UnitName>, String> {
    let list = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(list, _)| list);
    let entry = |line: &str| {
        let name: String = serde_json::from_str(line.trim().trim_end_matches(',')).ok()?;
        UnitName::parse(&name).ok()
    };
    let units: Option<BTreeSet<UnitName>> = list.and_then(|list| list.lines().map(entry).collect());
    units.filter(|units| self::text(units) == text).ok_or_else(|| "it was changed by hand".to_owned())
}

/// The file for these units.
pub fn text(units: &BTreeSet<UnitName>) -> String {
    let mut list = String::new();
    for (at, unit) in units.iter().enumerate() {
        let comma = if at + 1 < units.len() { "," } else { "" };
        // A name is ASCII, of which JSON and JavaScript have the same strings.
        let name = serde_json::Value::from(unit.as_str());
        writeln!(list, "        {name}{comma}").expect("a String takes all text");
    }
    let mut folders = String::new();
    for (at, folder) in FOLDERS.iter().enumerate() {
        let comma = if at + 1 < FOLDERS.len() { "," } else { "" };
        writeln!(folders, "        \"{folder}\"{comma}").expect("a String takes all text");
    }
    format!(
        r#"// Units that the device agent may start, stop and restart. Written by `twinagent allow-units`, which does not touch a
// file that was changed by hand.
polkit.addRule(function (action, subject) {{
{BEGIN}{list}{END}    var folders = [
{folders}    ];
    var unit = action.lookup("unit"), verb = action.lookup("verb");
    if (subject.user !== "{USER}" ||
        action.id !== "org.freedesktop.systemd1.manage-units" ||
        units.indexOf(unit) < 0 ||
        ["start", "stop", "restart"].indexOf(verb) < 0) {{
        return polkit.Result.NOT_HANDLED;
    }}
    // systemd 257 and newer ask in the same words for a unit that the caller describes in its call and systemd then runs as
    // root (StartTransientUnit). For a name whose unit is installed systemd refuses such a call, so no other passes.
    if (/transient/i.test(action.lookup("polkit.message"))) {{
        return polkit.Result.NOT_HANDLED;
    }}
    if (verb !== "stop") {{
        var test = ["/usr/bin/test"];
        folders.forEach(function (folder) {{
            test.push("-e", folder + "/" + unit, "-o", "-e", folder + "/" + unit.replace(/@.*\./, "@."), "-o");
        }});
        test.pop();
        try {{
            polkit.spawn(test);
        }} catch (error) {{
            return polkit.Result.NOT_HANDLED;
        }}
    }}
    return polkit.Result.YES;
}});
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<UnitName> {
        names.iter().map(|name| UnitName::parse(name).expect("a name")).collect()
    }

    #[test]
    fn what_is_written_reads_back_and_anything_else_is_left_alone() {
        let lists: [&[&str]; 4] =
            [&[], &["nginx.service"], &["b.timer", "a@x.service", "a.service"], &["dev-x\\x2dy.swap"]];
        for list in lists {
            let text = text(&names(list));
            assert_eq!(units(&text), Ok(names(list)), "{text}");
            for changed in [
                text.replace("YES", "NO"),
                text.replace("[\"start\"", "[\"kill\""),
                text.replace("    ];\n", "    , evil()];\n"),
                text.replace("    ];\n", "        \"*\"\n    ];\n"),
                format!("{text}\n"),
                text.replace("!==", "!="),
                text.split_once("var unit =").map_or_else(String::new, |(begin, _)| begin.to_owned()),
            ] {
                assert!(units(&changed).is_err(), "{changed}");
            }
        }
        assert!(units("").is_err());
    }

    /// By the engine that polkit has on Debian.
    #[test]
    fn the_rules_let_the_agent_do_what_is_listed_and_nothing_else() {
        let allowed =
            text(&names(&["nginx.service", "a\\x2db@c.timer", "gone.service", "image.service", "early.service"]));
        let shipped = include_str!("../../packaging/polkit/50-twinagent.rules");
        let manage = "org.freedesktop.systemd1.manage-units";
        let job = "twinagent-job-apt-upgrade@x_1-2.service";
        let longest = format!("twinagent-job-{}@{}.service", "n".repeat(63), "i".repeat(64));
        let too_long = format!("twinagent-job-{}@{}.service", "n".repeat(63), "i".repeat(65));
        let cases: Vec<(&str, &str, &str, &str, bool)> = vec![
            // By `allow-units`.
            ("twinagent", manage, "nginx.service", "restart", true),
            ("twinagent", manage, "nginx.service", "start", true),
            ("twinagent", manage, "a\\x2db@c.timer", "stop", true),
            ("twinagent", manage, "nginx.service", "kill", false),
            ("twinagent", manage, "nginx.service", "set-property", false),
            ("twinagent", manage, "nginx.service.d", "restart", false),
            ("twinagent", manage, "ssh.service", "restart", false),
            ("twinagent", "org.freedesktop.systemd1.manage-unit-files", "nginx.service", "restart", false),
            ("pi", manage, "nginx.service", "restart", false),
            ("twinagent-handlers", manage, "nginx.service", "restart", false),
            ("twinagent", manage, "gone.service", "restart", false),
            ("twinagent", manage, "gone.service", "start", false),
            ("twinagent", manage, "gone.service", "stop", true),
            ("twinagent", manage, "image.service", "start", true),
            ("twinagent", manage, "early.service", "restart", true),
            // By the package.
            ("twinagent", manage, job, "start", true),
            ("twinagent", manage, "twinagent-job-gone@1.service", "start", false),
            ("twinagent", manage, job, "stop", true),
            ("twinagent", manage, job, "reset-failed", true),
            ("twinagent", manage, &longest, "start", true),
            ("twinagent", manage, &too_long, "start", false),
            ("twinagent", manage, job, "restart", false),
            ("twinagent", manage, job, "set-property", false),
            ("pi", manage, job, "start", false),
            ("twinagent-handlers", manage, job, "start", false),
            ("twinagent", manage, "twinagent-job-a@.service", "start", false),
            ("twinagent", manage, "twinagent-job-A@1.service", "start", false),
            ("twinagent", manage, "twinagent-job-@1.service", "start", false),
            ("twinagent", manage, "xtwinagent-job-a@1.service", "start", false),
            ("twinagent", manage, "twinagent-job-a@1.service\nssh.service", "start", false),
            ("twinagent", manage, "twinagent-job-a@1.service.mount", "start", false),
            ("twinagent", manage, "twinagent-job-a@1.timer", "start", false),
            ("twinagent", manage, "twinagent.service", "restart", false),
            ("twinagent", manage, "ssh.service", "restart", false),
            ("twinagent", "org.freedesktop.login1.reboot", "", "", true),
            ("twinagent", "org.freedesktop.login1.power-off", "", "", false),
            ("twinagent", "org.freedesktop.login1.power-off-multiple-sessions", "", "", false),
            ("twinagent", "org.freedesktop.login1.power-off-ignore-inhibit", "", "", false),
            ("twinagent", "org.freedesktop.login1.reboot-ignore-inhibit", "", "", false),
            ("twinagent", "org.freedesktop.login1.halt", "", "", false),
            ("pi", "org.freedesktop.login1.power-off", "", "", false),
        ];
        let asked: Vec<_> = cases.iter().map(|(user, id, unit, verb, _)| [user, id, unit, verb]).collect();
        // Of all units but those of the name `gone` there is a file in one of the folders.
        let script = format!(
            r#"
            var rules = [];
            var polkit = {{
                Result: {{ YES: "yes", NOT_HANDLED: null }},
                addRule: function (rule) {{ rules.push(rule); }},
                spawn: function (words) {{
                    var said = words.join(" ");
                    var form = new RegExp("^/usr/bin/test -e /[^ ]+( -o -e /[^ ]+)*$");
                    if (!form.test(said)) throw new Error(said);
                    // `gone` was described in a call.
                    var there = ["usr/lib/systemd/system/nginx.service", "run/systemd/generator/a\\x2db@.timer",
                        "etc/systemd/system.attached/image.service", "run/systemd/generator.early/early.service",
                        "run/systemd/transient/gone.service", "etc/systemd/system.control/gone.service"];
                    var is_there = there.some(function (file) {{ return words.indexOf("/" + file) > 0; }});
                    if (!is_there && !/etc.systemd.system.twinagent-job-[an][a-z-]*@.service/.test(said)) throw new Error(said);
                }}
            }};
            {allowed}
            {shipped}
            function may(a, message) {{
                return rules.some(function (rule) {{
                    var details = {{ unit: a[2], verb: a[3], "polkit.message": message }};
                    var action = {{ id: a[1], lookup: function (key) {{ return details[key]; }} }};
                    return rule(action, {{ user: a[0] }}) === "yes";
                }});
            }}
            var asked = {asked};
            var transient = asked.some(function (a) {{
                return a[2] && may(a, "Authentication is required to start transient unit '$(unit)'.");
            }});
            print(JSON.stringify([transient].concat(asked.map(function (a) {{ return may(a, "Authentication is required."); }}))));
            "#,
            asked = serde_json::to_string(&asked).expect("text")
        );
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("rules.js");
        std::fs::write(&file, script).expect("written");
        let duk = std::process::Command::new("duk").arg(file).output().expect("duk runs; hint: apt install duktape");
        let said: Vec<bool> = serde_json::from_slice(&duk.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&duk.stderr)));
        let (is_transient, said) = said.split_first().expect("at least one");
        assert!(!is_transient, "a unit that is described in the call is never started");
        assert_eq!(said.len(), cases.len());
        for ((user, id, unit, verb, expected), said) in cases.into_iter().zip(said.iter().copied()) {
            assert_eq!(said, expected, "{user} {id} {unit:?} {verb}");
        }
    }
}
