//! What README quotes of the program where something is wrong is what the program says: people search for it word by word.

use std::fs;
use std::path::Path;

const README: &str = include_str!("../../README.md");

/// The words of all source files, without the signs around them.
fn words_of_the_program(folder: &Path, words: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            words_of_the_program(&path, words);
        } else {
            words.extend(words_in(&fs::read_to_string(&path).expect("a file")));
        }
    }
}

fn words_in(text: &str) -> impl Iterator<Item = String> {
    let bare = |word: &str| word.trim_matches(|sign: char| "\\`;:,.()".contains(sign)).to_owned();
    text.split(|sign: char| sign.is_whitespace() || sign == '"').map(bare).filter(|word| !word.is_empty())
}

/// Whether the program says this somewhere. What it puts in at its end may be any word.
fn says(program: &[String], quoted: &str) -> bool {
    let quoted: Vec<String> = words_in(quoted).collect();
    let is_same = |(said, quoted): (&String, &String)| said == quoted || (said.starts_with('{') && said.contains('}'));
    program.windows(quoted.len()).any(|said| said[0] == quoted[0] && said.iter().zip(&quoted).all(is_same))
}

#[test]
fn what_the_table_of_troubles_quotes_is_what_the_program_says() {
    let mut program = Vec::new();
    words_of_the_program(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut program);
    let (_, troubles) = README.split_once("## When something is wrong").expect("the section");
    let (troubles, _) = troubles.split_once("\n## ").expect("its end");
    let seen = troubles.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let (mut count, mut missing) = (0, Vec::new());
    for quoted in seen.flat_map(|seen| seen.split('`').skip(1).step_by(2)) {
        for part in quoted.split('…').filter(|part| words_in(part).next().is_some()) {
            if !says(&program, part) {
                missing.push(part);
            }
            count += 1;
        }
    }
    assert!(missing.is_empty() && count > 30, "nothing in src says {missing:#?}, of {count}");
    assert!(!says(&program, "the broker opens no window"), "what nobody says is not found");
    assert!(says(&program, "the agent may not start twinagent-job-x"));
}
