//! Any bytes where `twinagent.toml` should be: a configuration, or faults that can be shown; and what is right comes back
//! from its settings, as `twinagent config` prints them, and from what is kept of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use twinagent::config::{
    Cloud, Config, Fault, Faults, Folders, HubProof, IotHub, Loaded, Sources, Specifiers, last_good,
};

pub const VERDICTS: &[&str] = &["right", "unknown", "faulty"];

/// Faults that are told of one file, and syntax errors beside them.
const MOST: usize = 60;

pub fn read(bytes: &[u8]) -> String {
    match load(bytes) {
        Ok(loaded) => {
            shown(&loaded.unknown);
            comes_back(&loaded.config);
            if loaded.unknown.is_empty() { "right" } else { "unknown" }
        }
        Err(Faults { faults, unknown, .. }) => {
            assert!(!faults.is_empty());
            shown(&faults);
            shown(&unknown);
            "faulty"
        }
    }
    .to_owned()
}

/// The way there and back.
pub fn comes_back(config: &Config) {
    let kept = last_good::write(config);
    assert!(kept.len() <= last_good::LARGEST);
    assert_eq!(last_good::read(&kept).as_ref(), Ok(config));
    // What a file of the machine says beside it is not in force any more.
    if matches!(&config.cloud, Some(Cloud::IotHub(IotHub { proof: HubProof::ConnectionString(_), .. }))) {
        return;
    }
    let text = config.settings().into_iter().fold(String::new(), |mut text, (key, setting)| {
        writeln!(text, "{key} = {setting}").expect("a String takes all text");
        text
    });
    let again = load(text.as_bytes()).expect("what is in force is right");
    assert_eq!((&again.config, again.unknown.len()), (config, 0));
}

fn shown(faults: &[Fault]) {
    assert!(faults.len() <= MOST, "{} faults", faults.len());
    for fault in faults {
        let words = fault.to_string();
        assert!(words.len() < 1_000 && !words.contains(char::is_control), "{words:?}");
    }
}

fn load(bytes: &[u8]) -> Result<Loaded, Faults> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), bytes).expect("a file");
    let nowhere = PathBuf::from("/nonexistent");
    let folders = Folders {
        vendor: nowhere.clone(),
        vendor_handlers: nowhere.clone(),
        configuration: nowhere.clone(),
        volatile: nowhere.clone(),
        vetoes: nowhere.clone(),
        state: nowhere.clone(),
        runtime: nowhere.clone(),
        bus: String::new(),
        credentials: None,
        variables: BTreeMap::new(),
    };
    let specifiers = Specifiers::default();
    Sources { folders: &folders, file: Some(file.path()), drop_in: None, specifiers: &specifiers }.load()
}
