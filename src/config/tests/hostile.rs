//! What was not written by somebody who means well, or is no file of ours at all.

use super::*;

#[test]
fn hostile_files_are_refused_soon_and_with_a_line() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_tables = format!("{}x = 1", "a.".repeat(100_000));
    let many = "x = \u{1}\n".repeat(10_000);
    let cases: [(&[u8], &str); 11] = [
        (deep.as_bytes(), "etc/twinagent.toml:1: "),
        (deep_tables.as_bytes(), "etc/twinagent.toml:1: "),
        (many.as_bytes(), "etc/twinagent.toml:1: "),
        (b"a = 1\nb = \"\xff\"\n", "etc/twinagent.toml:2: is not UTF-8"),
        (b"a = 1\na = 2\n", "etc/twinagent.toml:2: duplicate key"),
        (b"[session]\n[session]\n", "etc/twinagent.toml:2: duplicate key"),
        (b"\"a[999999999]\" = 1\n", "etc/twinagent.toml:1: a key with other characters"),
        (b"\"session.keep_alive\" = \"5s\"\n", "etc/twinagent.toml:1: a key with other characters"),
        (b"a = 99999999999999999999\n", "etc/twinagent.toml:1: the number is too large"),
        (b"device.id = 2026-01-01\n", "etc/twinagent.toml:1: no key takes a date or time"),
        (b"device.id = \"a\\u0007b\x7f\"\n", "etc/twinagent.toml:1: "),
    ];
    for (text, expected) in cases {
        let start = Instant::now();
        let faults = Machine::new().with("etc/twinagent.toml", text).faults();
        let shown = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
        assert!(faults.first().is_some_and(|fault| fault.starts_with(expected)), "{shown:?}: {faults:?}");
        assert!(faults.len() <= 5 && faults.iter().all(|fault| fault.len() < 400 && !fault.contains('\x07')));
        assert!(start.elapsed() < Duration::from_secs(20), "{shown:?} took {:?}", start.elapsed());
    }
    let numbered = |before: &str, after: &str| -> String {
        (0..90_000).flat_map(|number| [before.to_owned(), number.to_string(), after.to_owned()]).collect()
    };
    let unknown = numbered("kep", "=1\n");
    let wrong = format!("methods.disable = [{}]", "\"?\",".repeat(200_000));
    let odd = numbered("'", "?'=1\n");
    for text in [unknown, wrong, odd] {
        let start = Instant::now();
        assert_eq!(Machine::new().with("etc/twinagent.toml", &text).faults().len(), 50, "{:?}", &text[..20]);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} took {:?}", &text[..20], start.elapsed());
    }
    let with_mark = [b"\xef\xbb\xbf".as_slice(), GOOD.as_bytes()].concat();
    Machine::new().with("etc/twinagent.toml", with_mark).config();
}

#[test]
fn what_is_no_file_is_not_read_as_one() {
    let large = Machine::new().with("etc/twinagent.toml", vec![b'\n'; (1 << 20) + 1]);
    assert_eq!(large.faults(), ["etc/twinagent.toml: is larger than 1024 KiB"]);

    let folder = Machine::new();
    fs::create_dir(folder.path("etc/conf.d/10.toml")).expect("a folder");
    assert_eq!(folder.faults(), ["etc/conf.d/10.toml: is not a regular file"]);

    let pipe = Machine::new();
    let made = std::process::Command::new("mkfifo").arg(pipe.path("etc/twinagent.toml")).status().expect("mkfifo");
    assert!(made.success());
    assert_eq!(pipe.faults(), ["etc/twinagent.toml: is not a regular file"]);

    let open = Machine::new().with("etc/twinagent.toml", GOOD);
    fs::set_permissions(open.path("etc/twinagent.toml"), fs::Permissions::from_mode(0o666)).expect("a mode");
    assert_eq!(
        open.faults(),
        ["etc/twinagent.toml: may be written by everybody, so it is not trusted; chmod o-w mends it"]
    );

    let dangling = Machine::new();
    symlink("nowhere", dangling.path("etc/twinagent.toml")).expect("a link");
    assert_eq!(dangling.faults().len(), 1, "a link that leads nowhere is not the same as no file");

    let crowded = Machine::new();
    for number in 0..300 {
        fs::write(crowded.path(&format!("etc/conf.d/{number}.toml")), "").expect("a file");
    }
    assert_eq!(crowded.faults(), ["etc/conf.d: holds more than 256 files"]);
}

proptest! {
    #[test]
    fn no_text_is_a_panic(junk in "\\PC{0,60}", line in 0..40_usize, from in 0..60_usize) {
        file::parse(Path::new("x"), &junk);
        // Most of what people break is nearly right, so the reference is broken too.
        let mut lines: Vec<String> = uncommented(&["#   ", "#"]).lines().map(str::to_owned).collect();
        let settings: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].contains(" = ")).collect();
        let broken = &mut lines[settings[line % settings.len()]];
        let kept: String = broken.chars().take(from).collect();
        *broken = kept + &junk;
        let (tree, faults) = file::parse(Path::new("x"), &lines.join("\n"));
        let mut reader = Reader::new(merge(vec![tree]).expect("merged"));
        raw::read(&mut reader, &Specifiers::default());
        let findings = reader.finish();
        for fault in faults.iter().chain(&findings.faults).chain(&findings.unknown) {
            prop_assert!(!fault.to_string().contains(char::is_control));
        }
    }
}
