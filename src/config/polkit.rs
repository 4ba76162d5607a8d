//! The rule for polkit by which the agent may start, stop and restart units that are none of its own: `twinagent allow-units`
//! writes it, and it is the only list of them.
//!
//! Spells and reads the file. A file that is not exactly what would be written was changed by somebody, and is not touched.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::unit_name::UnitName;

/// The most units of a list.
pub const MOST: usize = 256;

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
    format!(
        r#"// Units that the device agent may start, stop and restart. Written by `twinagent allow-units`, which does not touch a
// file that was changed by hand.
polkit.addRule(function (action, subject) {{
{BEGIN}{list}{END}    var verbs = ["start", "stop", "restart"];
    if (subject.user === "{USER}" &&
        action.id === "org.freedesktop.systemd1.manage-units" &&
        units.indexOf(action.lookup("unit")) >= 0 &&
        verbs.indexOf(action.lookup("verb")) >= 0) {{
        return polkit.Result.YES;
    }}
    return polkit.Result.NOT_HANDLED;
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
                text.replace("\"start\"", "\"kill\""),
                text.replace("    ];\n", "    , evil()];\n"),
                text.replace("    ];\n", "        \"*\"\n    ];\n"),
                format!("{text}\n"),
                text.replace("===", "=="),
                text.split_once("var verbs").map_or_else(String::new, |(begin, _)| begin.to_owned()),
            ] {
                assert!(units(&changed).is_err(), "{changed}");
            }
        }
        assert!(units("").is_err());
    }

    /// By the engine that polkit has on Debian.
    #[test]
    fn the_rules_let_the_agent_do_what_is_listed_and_nothing_else() {
        let allowed = text(&names(&["nginx.service", "a\\x2db@c.timer"]));
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
            // By the package.
            ("twinagent", manage, job, "start", true),
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
            ("twinagent", "org.freedesktop.login1.power-off", "", "", true),
            ("twinagent", "org.freedesktop.login1.power-off-multiple-sessions", "", "", true),
            ("twinagent", "org.freedesktop.login1.power-off-ignore-inhibit", "", "", false),
            ("twinagent", "org.freedesktop.login1.reboot-ignore-inhibit", "", "", false),
            ("twinagent", "org.freedesktop.login1.halt", "", "", false),
            ("pi", "org.freedesktop.login1.power-off", "", "", false),
        ];
        let asked: Vec<_> = cases.iter().map(|(user, id, unit, verb, _)| [user, id, unit, verb]).collect();
        let script = format!(
            "var rules = []; var polkit = {{ Result: {{ YES: 'yes', NOT_HANDLED: null }}, addRule: function (f) {{ rules.push(f); }} }};\n\
             {allowed}\n{shipped}\n\
             var asked = {};\n\
             print(JSON.stringify(asked.map(function (a) {{ return rules.some(function (rule) {{\n\
             var action = {{ id: a[1], lookup: function (key) {{ return {{ unit: a[2], verb: a[3] }}[key]; }} }};\n\
             return rule(action, {{ user: a[0] }}) === 'yes'; }}); }})));\n",
            serde_json::to_string(&asked).expect("text")
        );
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("rules.js");
        std::fs::write(&file, script).expect("written");
        let duk = std::process::Command::new("duk").arg(file).output().expect("duk runs; hint: apt install duktape");
        let said: Vec<bool> = serde_json::from_slice(&duk.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&duk.stderr)));
        assert_eq!(said.len(), cases.len());
        for ((user, id, unit, verb, expected), said) in cases.into_iter().zip(said) {
            assert_eq!(said, expected, "{user} {id} {unit:?} {verb}");
        }
    }
}
