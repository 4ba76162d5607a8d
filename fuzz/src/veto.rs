//! Any bytes where a veto should be: understood or not without a panic, and what is understood reads back as it was.

use std::path::PathBuf;
use std::time::Duration;

use twinagent::config::veto::{End, Veto, parse, text};

use super::model::now;

pub const VERDICTS: &[&str] = &["holds", "wall", "uptime", "unread"];

pub fn read(bytes: &[u8]) -> String {
    let understood = std::str::from_utf8(bytes).map_err(|error| error.to_string()).and_then(parse);
    let (reason, end) = match understood {
        Ok(understood) => understood,
        Err(why) => {
            assert!(!why.is_empty());
            return "unread".to_owned();
        }
    };
    assert_eq!(parse(&text(&reason, None, false, &now())), Ok((reason.clone(), None)));
    let veto = Veto { name: "fuzz".to_owned(), reason, end, path: PathBuf::new() };
    let ends = veto.expires(&now());
    let Some(end) = end else { return "holds".to_owned() };
    let left = ends.expect("what has an end has one on the wall").since(now().wall);
    assert!(!veto.is_over(&now()) || left == Duration::ZERO);
    match end {
        End::Wall(time) => {
            let again = format!("expires = \"{time}\"\n{}", text(&veto.reason, None, false, &now()));
            assert_eq!(parse(&again), Ok((veto.reason, Some(end))));
            "wall".to_owned()
        }
        End::Boot(_) => "uptime".to_owned(),
    }
}
