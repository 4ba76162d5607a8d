//! Reads Rust source just well enough to know which paths it names, on which line, and in which inline module.
//!
//! Comments, strings and lifetimes are left out; use trees, `super`, `self`, `crate` and renamed imports are followed.
//! It does not expand macros and does not judge what it finds: that is `rules.rs`.

use std::collections::BTreeMap;

/// One word or sign of the source that is neither comment nor literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Counted from 1.
    pub(crate) line: usize,
    /// An identifier, `::`, or one sign.
    pub(crate) text: String,
}

impl Token {
    pub(crate) fn is_name(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// A path as it was meant, wherever it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) root: Root,
    /// From the root downwards, `*` for a glob. Of a foreign path the first one is the crate.
    pub(crate) segments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// Our library.
    Ours,
    /// Another crate, or a name that is known only in this file.
    Foreign,
}

/// Where a file stands: its modules from the root of its crate downwards, and whether that crate is the library.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) modules: &'a [String],
    pub(crate) library: bool,
}

/// Splits the source into tokens.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let (mut found, mut line, mut i) = (Vec::new(), 1, 0);
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => i = after_block_comment(&chars, i),
            '"' => i = after_string(&chars, i),
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                found.push(Token { line, text: "::".to_owned() });
            }
            first if is_word(first) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|&&sign| sign == '#').count();
                match (word.as_str(), at(i + hashes)) {
                    ("r" | "br" | "cr", '"') => i = after_raw_string(&chars, i + hashes, hashes),
                    ("b" | "c", '"') if hashes == 0 => i = after_string(&chars, i),
                    // The quote of `b'x'` is the next turn's; a raw identifier is its name.
                    ("b", '\'') if hashes == 0 => {}
                    ("r", next) if hashes == 1 && is_word(next) => i += 1,
                    _ if first.is_ascii_digit() => {}
                    _ => found.push(Token { line, text: word }),
                }
            }
            blank if blank.is_whitespace() => i += 1,
            sign => {
                i += 1;
                found.push(Token { line, text: sign.to_string() });
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|&&char| char == '\n').count();
    }
    found
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn after_block_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

/// `quote` is the place of the opening quote.
fn after_string(chars: &[char], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn after_raw_string(chars: &[char], quote: usize, hashes: usize) -> usize {
    let mut i = quote + 1;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take_while(|&&char| char == '#').take(hashes).count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}

/// Every path that the tokens name, in order, each resolved from the place where it stands.
pub(crate) fn paths(place: Place<'_>, tokens: &[Token]) -> Vec<Path> {
    let mut reader = Reader { place, tokens, scopes: Vec::new(), imports: BTreeMap::new(), found: Vec::new() };
    let mut i = 0;
    while i < tokens.len() {
        i = reader.step(i);
    }
    reader.found
}

struct Reader<'a> {
    place: Place<'a>,
    tokens: &'a [Token],
    /// One for each open brace: the name, if it is a module's.
    scopes: Vec<Option<String>>,
    /// What a name that was imported in this file stands for, foreign ones only.
    imports: BTreeMap<String, Vec<String>>,
    found: Vec<Path>,
}

impl Reader<'_> {
    fn text(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| &token.text)
    }

    fn step(&mut self, i: usize) -> usize {
        let before = if i == 0 { "" } else { self.text(i - 1) };
        match self.text(i) {
            "{" => {
                let module = (i >= 2 && self.text(i - 2) == "mod").then(|| before.to_owned());
                self.scopes.push(module);
                i + 1
            }
            "}" => {
                self.scopes.pop();
                i + 1
            }
            // `use<'a>` is a list of captures.
            "use" if self.text(i + 1) != "<" => self.tree(i + 1, &[]),
            "crate" if before == "extern" => self.tree(i + 1, &[]),
            _ if self.tokens[i].is_name() && self.text(i + 1) == "::" && self.starts_a_path(i) => self.plain(i),
            _ => i + 1,
        }
    }

    /// Whether the name at `i` is a first segment: `::std` is, the `b` of `a::b` and of `<T>::b` is not.
    fn starts_a_path(&self, i: usize) -> bool {
        if i == 0 || self.text(i - 1) != "::" {
            return true;
        }
        i >= 2 && self.text(i - 2) != ">" && !self.tokens[i - 2].is_name()
    }

    fn plain(&mut self, mut i: usize) -> usize {
        let line = self.tokens[i].line;
        let mut segments = vec![self.text(i).to_owned()];
        while self.text(i + 1) == "::" && self.tokens.get(i + 2).is_some_and(Token::is_name) {
            i += 2;
            segments.push(self.text(i).to_owned());
        }
        if let Some(import) = self.imports.get(&segments[0]) {
            segments.splice(..1, import.iter().cloned());
        }
        self.add(line, segments);
        i + 1
    }

    /// One branch of a use tree; returns the place behind it.
    fn tree(&mut self, mut i: usize, stem: &[String]) -> usize {
        let mut segments = stem.to_vec();
        let line = self.tokens.get(i).map_or(0, |token| token.line);
        if self.text(i) == "::" {
            i += 1;
        }
        loop {
            match self.text(i) {
                "{" => {
                    i += 1;
                    while !matches!(self.text(i), "}" | ";" | "") {
                        i = self.tree(i, &segments);
                        if self.text(i) == "," {
                            i += 1;
                        }
                    }
                    return i + 1;
                }
                "" | ";" | "," | "}" => return i,
                name => segments.push(name.to_owned()),
            }
            i += 1;
            if self.text(i) != "::" {
                break;
            }
            i += 1;
        }
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let mut name = segments.last().cloned().unwrap_or_default();
        if self.text(i) == "as" {
            self.text(i + 1).clone_into(&mut name);
            i += 2;
        }
        let path = self.add(line, segments);
        if path.root == Root::Foreign {
            self.imports.insert(name, path.segments);
        }
        // Whatever else stands here is no Rust; step over it so that this always ends.
        if matches!(self.text(i), "," | "}" | ";" | "") { i } else { i + 1 }
    }

    fn add(&mut self, line: usize, segments: Vec<String>) -> Path {
        let path = self.resolve(line, segments);
        self.found.push(path.clone());
        path
    }

    fn resolve(&self, line: usize, segments: Vec<String>) -> Path {
        let mut rest = segments.iter().peekable();
        let mut here: Vec<String> = match segments[0].as_str() {
            "twinagent" => {
                return Path { line, root: Root::Ours, segments: segments[1..].to_vec() };
            }
            "crate" => {
                rest.next();
                Vec::new()
            }
            "self" | "super" => self.place.modules.iter().chain(self.scopes.iter().flatten()).cloned().collect(),
            _ => return Path { line, root: Root::Foreign, segments },
        };
        while let Some(step) = rest.next_if(|step| matches!(step.as_str(), "self" | "super")) {
            if step == "super" {
                here.pop();
            }
        }
        here.extend(rest.cloned());
        let root = if self.place.library { Root::Ours } else { Root::Foreign };
        Path { line, root, segments: here }
    }
}
