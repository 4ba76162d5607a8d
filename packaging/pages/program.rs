//! The page of a program: what it can be asked comes from its clap definitions; what surrounds them (exit codes, files,
//! environment) from a file of man(7) beside this one.
//!
//! All sub-commands stand in the one page, so that a search finds them.

use clap::builder::StyledStr;
use clap::{Arg, Command};

use crate::roff::{Page, bold, italic};

/// Divides the file: what stands before goes under DESCRIPTION, what follows after COMMANDS.
const COMMANDS: &str = ".\\\" commands\n";

/// The page of this program, around it what `surroundings` says.
pub(crate) fn page(mut program: Command, date: &str, surroundings: &str) -> String {
    // Passes options that hold everywhere on to the sub-commands, and names all values.
    program.build();
    let name = program.get_name().to_owned();
    let (description, rest) = surroundings.split_once(COMMANDS).expect("the file has the line that divides it");

    let mut page = Page::new(&name, 1, date, &plain(program.get_about()));
    page.section("SYNOPSIS");
    page.raw(&format!("{} {} [{}]", bold(&name), italic("COMMAND"), italic("ARGUMENTS")));
    page.section("DESCRIPTION");
    page.raw(description);
    page.section("OPTIONS");
    for option in program.get_arguments().filter(|one| !one.is_hide_set()) {
        argument(&mut page, option);
    }
    page.section("COMMANDS");
    for command in program.get_subcommands() {
        chapter(&mut page, command, &name);
    }
    page.raw(rest);
    page.finish()
}

/// A command with its arguments, and the commands below it.
fn chapter(page: &mut Page, command: &Command, above: &str) {
    // `help` is clap's own and says nothing of ours.
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{above} {}", command.get_name());
    let own: Vec<&Arg> = command.get_arguments().filter(|one| is_own(one)).collect();
    page.subsection(&name);
    page.raw(&usage(&name, &own));
    page.paragraph(&plain(command.get_long_about().or(command.get_about())));
    for one in own {
        argument(page, one);
    }
    for below in command.get_subcommands() {
        chapter(page, below, &name);
    }
}

/// The line of a command: what must be given, then what may be.
fn usage(name: &str, arguments: &[&Arg]) -> String {
    let (must, may): (Vec<&Arg>, Vec<&Arg>) = arguments.iter().partition(|one| one.is_required_set());
    let must = must.into_iter().map(term);
    let may = may.into_iter().map(|one| format!("[{}]", term(one)));
    std::iter::once(bold(name)).chain(must).chain(may).collect::<Vec<_>>().join(" ")
}

fn argument(page: &mut Page, one: &Arg) {
    let mut words = plain(one.get_long_help().or(one.get_help()));
    let mut add = |more: String| {
        words = if words.is_empty() { more } else { format!("{}. {more}", words.trim_end_matches('.')) };
    };
    let known: Vec<String> = one.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if takes_values(one) && !known.is_empty() {
        add(format!("One of {}", known.join(", ")));
    }
    if let Some(default) = one.get_default_values().first().filter(|_| takes_values(one)) {
        add(format!("The default is `{}`", default.to_string_lossy()));
    }
    page.item(&term(one), &words);
}

/// How an argument is given: `--out FILE`, `METHOD`, `-h, --help`.
fn term(one: &Arg) -> String {
    let values: Vec<String> = one.get_value_names().unwrap_or_default().iter().map(|name| italic(name)).collect();
    let mut names = Vec::new();
    names.extend(one.get_short().map(|short| bold(&format!("-{short}"))));
    names.extend(one.get_long().map(|long| bold(&format!("--{long}"))));
    let mut term = names.join(", ");
    if takes_values(one) {
        if !term.is_empty() {
            term.push(' ');
        }
        term += &values.join(" ");
    }
    term
}

fn takes_values(one: &Arg) -> bool {
    one.get_action().takes_values()
}

/// Not one that every command has; those stand once, at the top.
fn is_own(one: &Arg) -> bool {
    !one.is_global_set() && !one.is_hide_set() && !matches!(one.get_id().as_str(), "help" | "version")
}

fn plain(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn agent() -> String {
        page(twinagent::cli::Cli::command(), "2026-11-22", include_str!("twinagent.1.roff"))
    }

    #[test]
    fn every_command_and_every_option_stands_in_the_page() {
        let page = agent();
        let missing = |command: &Command, path: &str| -> Vec<String> {
            let name = command.get_name().replace('-', "\\-");
            let chapter = page.contains(&format!(".SS \"{path} {name}\"\n"));
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            let options = shown.filter_map(Arg::get_long).filter(|long| {
                let long = long.replace('-', "\\-");
                !page.contains(&format!("\\fB\\-\\-{long}\\fP"))
            });
            options.map(str::to_owned).chain((!chapter).then(|| command.get_name().to_owned())).collect()
        };
        for command in twinagent::cli::Cli::command().get_subcommands().filter(|one| !one.is_hide_set()) {
            assert_eq!(missing(command, "twinagent"), [""; 0], "{page}");
        }
        assert!(page.contains(".SS \"twinagent twin report\""), "commands of commands too: {page}");
    }

    #[test]
    fn what_is_hidden_from_help_is_hidden_here() {
        let hidden = Command::new("inner").hide(true).about("for the unit");
        let shown = Command::new("shown").about("for people").arg(Arg::new("secret").long("secret").hide(true));
        let page = page(Command::new("p").subcommands([hidden, shown]), "", COMMANDS);
        assert!(page.contains("p shown") && !page.contains("inner") && !page.contains("secret"), "{page}");
    }

    #[test]
    fn an_argument_tells_its_values_and_its_default() {
        let kind = Arg::new("kind")
            .long("kind")
            .value_name("KIND")
            .value_parser(["a", "b"])
            .default_value("a")
            .help("What kind");
        let page = page(Command::new("p").subcommand(Command::new("go").arg(kind)), "", COMMANDS);
        let expected =
            "\\fB\\-\\-kind\\fP \\fIKIND\\fP\nWhat kind. One of \\fBa\\fP, \\fBb\\fP\\&. The default is \\fBa\\fP.\n";
        assert!(page.contains(expected), "{page}");
    }
}
