//! Stories of vetoes: set, seen, taken back.

use serde_json::Value;

use super::Device;

fn vetoes(device: &Device) -> Vec<Value> {
    let told = device.run(&["veto", "list", "--json"]);
    assert_eq!(told.code, 0, "{}", told.err);
    let document: Value = serde_json::from_str(&told.out).expect("JSON");
    document["vetoes"].as_array().expect("a list").clone()
}

#[test]
fn a_veto_is_seen_until_it_is_taken_back() {
    let device = Device::new();
    assert_eq!(device.run(&["veto", "list"]).out, "nothing is vetoed\n");
    let told = device.run(&["veto", "add", "backup", "--reason", "the nightly \"backup\"", "--for", "2h", "--keep"]);
    assert_eq!((told.code, told.out.as_str()), (0, ""), "{}", told.err);
    assert!(told.err.starts_with("wrote ") && told.err.contains("veto.d/backup.toml"), "{}", told.err);

    let [veto] = vetoes(&device).try_into().expect("one");
    assert_eq!(veto["reason"], "the nightly \"backup\"");
    assert_eq!(veto["isOver"], false);
    let listed = device.run(&["veto", "list"]).out;
    assert!(listed.contains("backup") && listed.contains("(in 1h 59m)"), "{listed}");

    let again = device.run(&["veto", "add", "backup", "--reason", "for longer", "--keep"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let [veto] = vetoes(&device).try_into().expect("still one");
    assert_eq!((&veto["reason"], &veto["expires"]), (&"for longer".into(), &Value::Null));

    let told = device.run(&["veto", "remove", "backup"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.starts_with("removed ") && vetoes(&device).is_empty(), "{}", told.out);
    let told = device.run(&["veto", "remove", "backup"]);
    assert_eq!(told.code, 1);
    assert_eq!(told.err, "twinagent: there is no veto `backup`\nhint: `twinagent veto list`\n");
}

#[test]
fn what_no_veto_can_be_is_wrong_usage() {
    let device = Device::new();
    let long = "x".repeat(201);
    for bad in [
        &["add", "../etc", "--reason", "a"][..],
        &["add", "a", "--reason", " "],
        &["add", "a", "--reason", &long],
        &["add", "a", "--reason", "a", "--for", "2"],
        &["add", "a", "--reason", "a", "--for", "0s"],
        &["add", "a"],
        &["remove", "a/b"],
        &[],
    ] {
        let told = device.run(&[&["veto"], bad].concat());
        assert_eq!(told.code, 2, "{bad:?}: {}{}", told.out, told.err);
    }
    assert!(vetoes(&device).is_empty());
}
