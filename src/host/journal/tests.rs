//! The reader with a journalctl of the test's own, since the machine of a test need not have a journal; the real one is read by
//! the system tests. The agent's side against sockets.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::thread;

use super::reader::Reader;
use super::*;

fn name(text: &str) -> UnitName {
    UnitName::parse(text).expect("a name")
}

/// A reader whose journalctl is this script of the shell.
fn reader(folder: &Path, script: &str) -> Reader {
    let journalctl = folder.join("journalctl");
    let draft = folder.join("draft");
    fs::write(&draft, format!("#!/bin/sh\n{script}\n")).expect("written");
    // By another process: what a child of another test may still hold open for writing cannot be executed (ETXTBSY).
    let installed = std::process::Command::new("install").args(["-m", "755"]).args([&draft, &journalctl]).status();
    assert!(installed.expect("install runs").success());
    Reader { journalctl, listed: Ok(BTreeSet::from([name("nginx.service")])) }
}

fn question(query: &Query) -> Vec<u8> {
    serde_json::to_vec(query).expect("JSON")
}

#[tokio::test]
async fn a_question_becomes_the_arguments_of_journalctl_and_its_output_an_answer() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let arguments = folder.path().join("arguments");
    let output = [
        r#"{"__REALTIME_TIMESTAMP":"1763899202000000","PRIORITY":"3","MESSAGE":"third"}"#,
        r#"{"__REALTIME_TIMESTAMP":"1763899201000000","MESSAGE":[27,91,51,49,109,255,10,9],"PRIORITY":"9"}"#,
        "no JSON",
        r#"{"__REALTIME_TIMESTAMP":"1763899200000000","MESSAGE":null}"#,
        r#"{"__REALTIME_TIMESTAMP":"1763899200000000","MESSAGE":["a","b"]}"#,
    ]
    .join("\n");
    let script =
        format!("printf '%s\\n' \"$@\" \"${{SYSTEMD_COLORS-}}\" > {}\ncat <<'END'\n{output}\nEND", arguments.display());
    let reader = reader(folder.path(), &script);
    let since = Some("2026-11-23T12:00:00.9Z".parse().expect("a time"));
    let invocation = Some("0123456789abcdef0123456789abcdef".to_owned());
    let query = Query { lines: 7, since, priority: Some(4), invocation, ..Query::of(name("nginx.service")) };
    let Answer::Lines(lines) = reader.answer(&question(&query)).await else { panic!("no lines") };
    let said: Vec<&str> = lines.entries.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!(said, ["(several messages)", "(no message)", "\u{fffd}[31m\u{fffd}\n\t", "third"], "the oldest first");
    assert_eq!(lines.entries[3].priority, Some(3));
    assert_eq!((lines.entries[2].priority, lines.truncated), (None, false));
    assert_eq!(lines.entries[3].time.to_string(), "2025-11-23T12:00:02.000000Z");
    let arguments = fs::read_to_string(arguments).expect("it ran");
    let expected = "--unit=nginx.service\n--lines=7\n--reverse\n--output=json\n--output-fields=MESSAGE,PRIORITY\n--all\n\
                    --no-pager\n--quiet\n--since=@1795435200\n--priority=4\n\
                    _SYSTEMD_INVOCATION_ID=0123456789abcdef0123456789abcdef\n+\n\
                    INVOCATION_ID=0123456789abcdef0123456789abcdef\n0\n";
    assert_eq!(arguments, expected);
}

#[tokio::test]
async fn an_answer_is_bounded_whatever_the_journal_holds() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let cases = [
        // Without end.
        r#"while :; do echo '{"__REALTIME_TIMESTAMP":"1","MESSAGE":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}'; done"#,
        // Control characters are six times as long in JSON.
        r#"m=$(head -c 4000 /dev/zero | tr '\0' '"'); m=$(printf %s "$m" | sed 's/"/\\"/g')
        for i in $(seq 100); do echo "{\"__REALTIME_TIMESTAMP\":\"1\",\"MESSAGE\":\"$m\"}"; done"#,
    ];
    for script in cases {
        let answer = reader(folder.path(), script).answer(&question(&Query::of(name("twinagent.service")))).await;
        let length = serde_json::to_vec(&answer).expect("JSON").len();
        let Answer::Lines(lines) = answer else { panic!("no lines: {answer:?}") };
        assert!(lines.truncated && !lines.entries.is_empty() && length <= MOST_BYTES + 64, "{length} bytes");
    }
    // One entry that is larger than what is looked at, and one after it.
    let script = r#"printf '{"__REALTIME_TIMESTAMP":"2","MESSAGE":"'; head -c 3000000 /dev/zero | tr '\0' x; echo '"}'
    echo '{"__REALTIME_TIMESTAMP":"1","MESSAGE":"small"}'"#;
    let Answer::Lines(lines) =
        reader(folder.path(), script).answer(&question(&Query::of(name("twinagent.service")))).await
    else {
        panic!("no lines")
    };
    let said: Vec<&str> = lines.entries.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!(said, ["small", "(a message that is too long)"]);
}

#[tokio::test]
async fn only_units_of_ours_and_those_that_are_listed_are_read() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let reader = reader(folder.path(), "true");
    for unit in ["twinagent.service", "twinagent-handlers.service", "twinagent-job-a@1.service", "nginx.service"] {
        let answer = reader.answer(&question(&Query::of(name(unit)))).await;
        assert_eq!(answer, Answer::Lines(Lines::default()), "{unit}");
    }
    for unit in ["ssh.service", "twinagentx.service", "twinagent.timer", "nginx.socket", "x-twinagent-y.service"] {
        let answer = reader.answer(&question(&Query::of(name(unit)))).await;
        assert_eq!(answer, Answer::NotListed(unit.to_owned()));
    }
    for wrong in [
        &b""[..],
        b"[]",
        br#"["twinagent.service",5,null,null]"#,
        br#"{"unit":"twinagent*.service","lines":5}"#,
        br#"{"unit":"twinagent.service"}"#,
        br#"{"unit":"twinagent.service","lines":0}"#,
        br#"{"unit":"twinagent.service","lines":1001}"#,
        br#"{"unit":"twinagent.service","lines":5,"priority":8}"#,
        br#"{"unit":"twinagent.service","lines":5,"since":"now"}"#,
        br#"{"unit":"twinagent.service","lines":5,"invocation":"+"}"#,
        br#"{"unit":"twinagent.service","lines":5,"file":"/etc/shadow"}"#,
        br#"{"unit":"twinagent.service","unit":"nginx.service","lines":5}"#,
        &[b' '; QUESTION + 1],
    ] {
        let answer = reader.answer(wrong).await;
        assert!(matches!(answer, Answer::Failed(_)), "{}: {answer:?}", String::from_utf8_lossy(wrong));
    }
}

#[tokio::test]
async fn a_journalctl_that_fails_is_told_and_what_it_said_before_counts() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let query = question(&Query::of(name("twinagent.service")));
    let answer = reader(folder.path(), "echo 'No journal files were found.' >&2; exit 1").answer(&query).await;
    let Answer::Failed(why) = answer else { panic!("no failure: {answer:?}") };
    assert!(why.contains("No journal files"), "{why}");
    let script = r#"echo '{"__REALTIME_TIMESTAMP":"1","MESSAGE":"x"}'; exit 1"#;
    assert!(matches!(reader(folder.path(), script).answer(&query).await, Answer::Lines(_)));
    let gone = Reader { journalctl: folder.path().join("gone"), listed: Ok(BTreeSet::new()) };
    assert!(matches!(gone.answer(&query).await, Answer::Failed(why) if why.contains("cannot be started")));
}

#[tokio::test]
async fn the_agent_reads_an_answer_and_nothing_that_is_none() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let query = Query { lines: 3, ..Query::of(name("ssh.service")) };
    let logs = Logs::beside(folder.path());
    let error = logs.read(&query).await.expect_err("nobody is there");
    assert!(matches!(&error, LogError::Unreachable(_)) && error.to_string().contains("twinagent-logs.socket"));
    let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("a socket");
    let too_long = vec![b' '; usize::try_from(ANSWER).expect("it is small") + 1];
    let answers: Vec<Vec<u8>> = vec![
        br#"{"lines":{"entries":[{"time":"2026-11-23T12:00:00Z","message":"m"}],"truncated":false}}"#.to_vec(),
        br#"{"notListed":"ssh.service"}"#.to_vec(),
        br#"{"failed":"no journal"}"#.to_vec(),
        b"{}".to_vec(),
        br#"{"lines":{"entries":[{"time":1}]}}"#.to_vec(),
        too_long,
    ];
    let serving = answers.clone();
    let server = thread::spawn(move || {
        let mut asked = String::new();
        for answer in serving {
            let (mut stream, _) = listener.accept().expect("a connection");
            asked.clear();
            stream.read_to_string(&mut asked).expect("a question and its end");
            // Refused, where the agent has read enough.
            let _ = stream.write_all(&answer);
        }
        asked
    });
    let mut said = Vec::new();
    for _ in &answers {
        said.push(logs.read(&query).await);
    }
    assert_eq!(server.join().expect("it serves"), "{\"unit\":\"ssh.service\",\"lines\":3}\n");
    assert_eq!(said[0].as_ref().map(|lines| lines.entries.len()), Ok(1));
    assert_eq!(said[1], Err(LogError::NotListed(name("ssh.service"))));
    assert_eq!(said[2], Err(LogError::Failed("no journal".to_owned())));
    assert!(said[3..].iter().all(|said| matches!(said, Err(LogError::Failed(_)))), "{said:?}");
}

#[tokio::test]
async fn a_question_that_finds_no_place_is_asked_again_and_one_that_is_never_answered_fails() {
    for turned_away in [2, TRIES] {
        let folder = tempfile::TempDir::new().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("a socket");
        let server = thread::spawn(move || {
            for _ in 0..turned_away {
                // As systemd does with one more than `MaxConnections=`: it is not even read.
                drop(listener.accept().expect("a connection"));
            }
            if turned_away < TRIES {
                let (mut stream, _) = listener.accept().expect("a connection");
                stream.write_all(br#"{"lines":{"entries":[],"truncated":false}}"#).expect("somebody reads");
                // What is closed unread is cut off.
                stream.read_to_end(&mut Vec::new()).expect("a question and its end");
            }
        });
        let said = Logs::beside(folder.path()).read(&Query::of(name("twinagent.service"))).await;
        server.join().expect("it serves");
        if turned_away < TRIES {
            assert_eq!(said, Ok(Lines::default()));
        } else {
            assert!(matches!(&said, Err(LogError::Failed(why)) if why.contains("without an answer")), "{said:?}");
        }
    }
}
