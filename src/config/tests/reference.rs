//! The reference file shows what `raw.rs` does.

use super::*;

#[test]
fn the_reference_file_shows_the_defaults() {
    assert_eq!(Machine::new().with("etc/twinagent.toml", REFERENCE).config(), Machine::new().config());

    let defaults = uncommented(&["#"]);
    let shown = Machine::new().with("etc/twinagent.toml", &defaults).with("etc/conf.d/10.toml", GOOD);
    let plain = Machine::new().with("etc/conf.d/10.toml", GOOD);
    assert_eq!(shown.config(), plain.config());
    assert!(defaults.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count() > 10);
}

#[test]
fn the_reference_file_shows_every_key_and_no_other() {
    let machine = Machine::new().with("etc/twinagent.toml", uncommented(&["#   ", "#"]));
    machine.config();
    let tree = merge(layers::read(&machine.sources(), &mut Vec::new())).expect("merged");
    let mut reader = Reader::new(tree);
    raw::read(&mut reader, &Specifiers::default());
    for (key, place) in &reader.asked {
        assert!(place.is_some(), "packaging/twinagent.toml does not show {key}");
    }
}
