//! Every command that README.md and docs/ show is run by a test: here, or by who the block's label names.
//!
//! | label behind `sh` or `console` | who runs it |
//! |---|---|
//! | none | this test, in an empty folder for each document, with the programs on its PATH |
//! | `guest` | the guest scenario `visit`, which takes all such blocks of the book's chapters and of the README |
//! | `ci` | `.ci/run`, in which each line stands, or the README's block that it takes by its marker |
//! | `package` | `.ci/package`, in which each line stands |
//! | `test=FILE` | that test, in which the program of each command stands, and each argument as a string of its own |
//!
//! With `exit=N` each command of a block ends with that code. A block of language `synopsis` shows how programs are called, and
//! so does what stands in backticks: their help must know commands and options (opx-box, which this package doesn't build, is
//! looked up in its source). No other block may look like a command.

#[path = "../../tests/src/shown.rs"]
#[allow(dead_code)]
mod shown;

use rustix::process::{Pid, Signal, kill_process_group};
use shown::{Block, Command as Shown, blocks, compare};
use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs, as cargo built them for this test.
const PROGRAMS: [(&str, &str); 4] = [
    ("opx-emu", env!("CARGO_BIN_EXE_opx-emu")),
    ("opx-loopback", env!("CARGO_BIN_EXE_opx-loopback")),
    ("opx-perf", env!("CARGO_BIN_EXE_opx-perf")),
    ("opx-probe", env!("CARGO_BIN_EXE_opx-probe")),
];
/// The one of another package.
const BOX: &str = "opx-box";
const BOX_SOURCE: &str = "tests/guest/box/main.rs";
/// Languages whose blocks hold no commands.
const OTHERS: [&str; 7] = ["conf", "json", "markdown", "mermaid", "rust", "text", "toml"];
/// Seconds that a block may take: for what hangs.
const LIMIT: &str = "900";
/// The file in a block's folder that has what its commands print.
const PRINTED: &str = ".out";
/// What commands begin with.
const STARTS: [&str; 13] = [
    "$ ",
    "sudo ",
    "cargo ",
    "opx-probe ",
    "opx-loopback ",
    "opx-perf ",
    "opx-emu ",
    "opx-box ",
    ".ci/",
    "kill ",
    "tshark ",
    "systemctl ",
    "modprobe ",
];

/// A document.
struct Document {
    /// Its path from the repository's root.
    name: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> Document {
    Document { name: name.to_owned(), text: fs::read_to_string(root().join(name)).unwrap() }
}

/// README.md and all of docs/.
fn documents() -> Vec<Document> {
    fn below(folder: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                below(&name, found);
            } else if name.ends_with(".md") {
                found.push(name);
            }
        }
    }
    let mut names = vec!["README.md".to_owned()];
    below("docs", &mut names);
    names.sort();
    names.iter().map(|name| document(name)).collect()
}

/// The book's chapters, in its order, as paths from the repository's root.
fn chapters() -> Vec<String> {
    let summary = document("docs/SUMMARY.md").text;
    let links = summary.lines().filter_map(|line| line.split_once("](")?.1.strip_suffix(')'));
    links.map(|link| format!("docs/{link}")).collect()
}

fn commands_of(document: &Document) -> impl Iterator<Item = Block> {
    blocks(&document.text).into_iter().filter(|block| ["sh", "console"].contains(&block.language.as_str()))
}

/// Whether a block with this label is run by somebody else.
fn is_elsewhere(label: &str) -> bool {
    ["guest", "ci", "package"].contains(&label) || label.starts_with("test=")
}

/// Without comments and needless spaces.
fn plain(command: &str) -> String {
    let lines = command.lines().map(|line| line.split(" #").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_block_says_what_it_is_and_who_runs_it() {
    let mut wrong = Vec::new();
    for document in documents() {
        let mut complain = |line: usize, what: String| wrong.push(format!("{}:{line}: {what}", document.name));
        for block in blocks(&document.text) {
            let language = block.language.as_str();
            let is_command = ["sh", "console"].contains(&language);
            if !is_command && language != "synopsis" && !OTHERS.contains(&language) {
                complain(block.line, format!("a block of language {language:?}"));
            }
            let known = |label: &&String| is_elsewhere(label) || label.starts_with("exit=");
            for label in block.labels.iter().filter(|label| !is_command || !known(label)) {
                complain(block.line, format!("a label {label:?} that nobody heeds"));
            }
            let hidden = |line: &&String| STARTS.iter().any(|start| line.trim_start().starts_with(start));
            if ["text", "markdown"].contains(&language) {
                for line in block.lines.iter().filter(hidden) {
                    complain(block.line, format!("{line:?} looks like a command in a block of {language}"));
                }
            }
        }
        let mut fenced = false;
        let mut before = "";
        for (n, line) in document.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            let list = before.trim_start().starts_with(['-', '*', '|']) || before.starts_with(' ');
            if !fenced && line.starts_with("    ") && !line.trim().is_empty() && !list {
                complain(n + 1, "an indented block: give it a fence and a language".to_owned());
            }
            if !line.trim().is_empty() {
                before = line;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn commands_that_others_run_are_run_by_them() {
    let script = |name: &str| plain(&fs::read_to_string(root().join(name)).unwrap());
    let (run, package) = (script(".ci/run"), script(".ci/package"));
    let chapters = chapters();
    // The commands of the README that .ci/run takes by their markers.
    let readme = document("README.md").text;
    let taken: Vec<String> = commands_of(&document("README.md"))
        .filter(|block| {
            let marker = readme.lines().nth(block.line.saturating_sub(2)).unwrap_or_default();
            let name = marker.strip_prefix("<!-- command: ").and_then(|rest| rest.strip_suffix(" -->"));
            name.is_some_and(|name| run.contains(&format!("$(.ci/readme-command {name})")))
        })
        .flat_map(|block| block.commands())
        .map(|command| plain(&command.text))
        .collect();
    let mut wrong = Vec::new();
    for document in documents() {
        for block in commands_of(&document) {
            let test = block.labels.iter().find_map(|label| label.strip_prefix("test="));
            for command in block.commands() {
                let text = plain(&command.text);
                let (who, runs) = if block.has("guest") {
                    ("the visit", chapters.contains(&document.name) || document.name == "README.md")
                } else if block.has("ci") {
                    (".ci/run", taken.contains(&text) || run.contains(&text))
                } else if block.has("package") {
                    (".ci/package", package.contains(&text))
                } else if let Some(test) = test {
                    let source = fs::read_to_string(root().join(test)).unwrap_or_default();
                    (test, stands_in(&text, &source))
                } else {
                    continue;
                };
                if !runs {
                    wrong.push(format!("{}:{}: `{text}` isn't run by {who}", document.name, command.line));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Whether a test runs a command, as far as its source tells: it has the program, and each argument as a string. Of a file,
/// the name is enough.
fn stands_in(command: &str, source: &str) -> bool {
    let words = words(command);
    let Some((program, arguments)) = words.split_first() else { return false };
    let mut arguments = arguments.iter().map(|word| word.rsplit('/').next().unwrap_or_default());
    source.contains(program.as_str())
        && arguments.all(|word| [format!("\"{word}\""), format!("/{word}\"")].iter().any(|text| source.contains(text)))
}

/// A command's words, as a shell makes them of blanks and quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match (quote, words.last_mut()) {
            (None, _) if c == ' ' => words.push(String::new()),
            (None, _) if c == '\'' || c == '"' => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (_, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn a_command_stands_in_a_test_with_all_of_its_arguments() {
    let source = r##"Command::new("tshark").args(["-X", concat!("lua:", "/tools/x.lua"), "-Y", r#"a == "b" && c"#]);"##;
    assert!(stands_in(r#"tshark -X lua:tools/x.lua -Y 'a == "b" && c'"#, source));
    assert!(stands_in("tshark", source) && stands_in("tshark -X", source));
    for command in ["cargo -X", "tshark nonexistent", "tshark -Z", "tshark -Y 'a'", "tshark x.lu", "tshark concat", ""]
    {
        assert!(!stands_in(command, source), "{command}");
    }
}

#[test]
fn synopses_and_commands_in_the_text_are_known_to_the_programs() {
    let mut wrong = Vec::new();
    for document in documents() {
        let synopses = blocks(&document.text).into_iter().filter(|block| block.language == "synopsis");
        let synopses: Vec<String> = synopses.flat_map(|block| block.lines).collect();
        let names = || PROGRAMS.iter().map(|(name, _)| *name).chain([BOX]);
        let ours = |text: &String| names().any(|name| text.starts_with(&format!("{name} ")));
        let in_the_text = quoted(&document.text).into_iter().filter(ours);
        for line in synopses.iter().cloned().chain(in_the_text) {
            if let Err(why) = known(&line) {
                wrong.push(format!("{}: `{line}`: {why}", document.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// What stands in backticks, outside of blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut outside = String::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        if !fenced && !is_fence {
            outside += &format!("{line}\n");
        }
    }
    let paragraphs = outside.split("\n\n");
    let codes = paragraphs.flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    codes.map(|code| code.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Whether a program knows these subcommands and options.
fn known(line: &str) -> Result<(), String> {
    // Names go before what is in brackets, capitals or dashes.
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let names: Vec<&str> = line.split_whitespace().take_while(is_name).collect();
    if names.first() == Some(&BOX) {
        let source = fs::read_to_string(root().join(BOX_SOURCE)).unwrap();
        return unknown(line, &|option| source.contains(&format!("\n    {}: ", option[2..].replace('-', "_"))));
    }
    let (_, program) = PROGRAMS.iter().find(|(name, _)| names.first() == Some(name)).ok_or("no program of ours")?;
    let help = Command::new(program).args(&names[1..]).arg("--help").output().unwrap();
    let help = help.status.success().then(|| String::from_utf8(help.stdout).unwrap());
    let help = help.ok_or("no such command")?;
    unknown(line, &|option| options(&help).any(|known| known == option))
}

/// The options in a text, whole.
fn options(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| word.starts_with("--") && word.len() > 2)
}

fn unknown(line: &str, is_known: &dyn Fn(&str) -> bool) -> Result<(), String> {
    // Each program has this one, which isn't in its help.
    let unknown: Vec<&str> = options(line).filter(|option| *option != "--manual" && !is_known(option)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(format!("no option {}", unknown.join(", "))) }
}

#[test]
fn commands_and_options_that_there_arent_are_noticed() {
    for line in
        ["opx-emu --socket PATH", "opx-probe record 1 --dump", "opx-box --file my-test -- 'sh'", "opx-box --manual DIR"]
    {
        assert_eq!(known(line), Ok(()), "{line}");
    }
    // `--listen` has it for a beginning.
    for line in
        ["opx-probe export --list", "opx-probe frob", "opx-emu --sock", "opx-box --fil", "opx-box --socket PATH"]
    {
        assert!(known(line).is_err(), "{line}");
    }
}

#[test]
fn links_lead_somewhere_and_every_document_is_a_chapter() {
    let chapters = chapters();
    let mut wrong = Vec::new();
    for document in documents() {
        if document.name.starts_with("docs/")
            && document.name != "docs/SUMMARY.md"
            && !chapters.contains(&document.name)
        {
            wrong.push(format!("{} isn't in docs/SUMMARY.md", document.name));
        }
        let folder = Path::new(&document.name).parent().unwrap();
        for (target, line) in links(&document.text) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = if path.is_empty() { PathBuf::from(&document.name) } else { folder.join(path) };
            let mut complain = |what: &str| wrong.push(format!("{}:{line}: link {target}: {what}", document.name));
            if !root().join(&place).exists() {
                complain("nothing is there");
            } else if document.name.starts_with("docs/") && (path.starts_with("..") && folder == Path::new("docs")) {
                complain("it leads out of the book");
            } else if !anchor.is_empty() {
                let text = fs::read_to_string(root().join(&place)).unwrap();
                if !text.lines().any(|line| line.starts_with('#') && slug(line) == anchor) {
                    complain("no such heading");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Targets of links to files, with their lines.
fn links(text: &str) -> Vec<(&str, usize)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        found.extend(targets.filter(|target| !target.contains("://") && !target.contains(' ')).map(|t| (t, n + 1)));
    }
    found
}

/// A heading's anchor, as GitHub and mdBook make it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_other_commands_run_as_they_are_shown() {
    let mut wrong = Vec::new();
    for document in documents() {
        let folder = tempfile::tempdir().unwrap();
        for block in commands_of(&document) {
            if block.labels.iter().any(|label| is_elsewhere(label)) {
                continue;
            }
            if let Err(why) = run(&block, folder.path()) {
                wrong.push(format!("{}: {why}", document.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Runs a block: commands of `sh` in one shell, those of `console` one by one.
fn run(block: &Block, folder: &Path) -> Result<(), String> {
    let commands = block.commands();
    if block.language == "console" {
        return commands.iter().try_for_each(|command| run_one(command, block.exit(), folder));
    }
    let text: Vec<String> = commands.iter().map(|command| waiting(&command.text)).collect();
    let whole = Shown { line: block.line, text: with_free_ports(&text.join("\n")), output: Vec::new() };
    let mut ran = run_one(&whole, block.exit(), folder);
    // A server may be slow to see that the client of the line before has gone.
    for _ in 0..20 {
        if !ran.as_ref().is_err_and(|why| why.contains("busy with another client")) {
            break;
        }
        ran = run_one(&whole, block.exit(), folder);
    }
    ran
}

/// A reader goes on when opx-emu says that it is ready, and not when it has ended.
fn waiting(command: &str) -> String {
    let mut text = command.to_owned();
    if plain(command).ends_with('&') {
        let words: Vec<&str> = command.split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "--socket") {
            text += &format!("\nuntil grep -qx 'ready {}' {PRINTED}; do kill -0 $!; sleep 0.05; done", pair[1]);
        }
    }
    text
}

/// With a port that is free in place of each that is shown of this machine: the one shown may be somebody else's.
fn with_free_ports(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut free: HashMap<&str, SocketAddr> = HashMap::new();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let place = free.entry(&part[..end]).or_insert_with(free_place);
        out += &format!("{place}{}", &part[end..]);
    }
    out
}

/// A place where nobody listens: at an address of this process alone, so that no other takes the port before it is used.
fn free_place() -> SocketAddr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    TcpListener::bind((Ipv4Addr::new(127, a, b, c), 0)).unwrap().local_addr().unwrap()
}

fn run_one(command: &Shown, exit: i32, folder: &Path) -> Result<(), String> {
    let path = PROGRAMS.map(|(_, program)| Path::new(program).parent().unwrap().to_str().unwrap());
    let path = format!("{}:{}", path[0], std::env::var("PATH").unwrap());
    let (out_path, err_path) = (folder.join(PRINTED), folder.join(".err"));
    let file = |path: &Path| Stdio::from(fs::File::create(path).unwrap());
    let mut shell = Command::new("timeout");
    shell
        .args(["--foreground", LIMIT, "bash", "-euo", "pipefail", "-c", &command.text])
        .current_dir(folder)
        .env("PATH", path);
    shell.stdin(Stdio::null()).stdout(file(&out_path)).stderr(file(&err_path)).process_group(0);
    let mut shell = shell.spawn().unwrap();
    let group = Pid::from_child(&shell);
    let status = shell.wait().unwrap();
    // What it left running.
    let _ = kill_process_group(group, Signal::KILL);
    let printed = [out_path, err_path].map(|path| fs::read_to_string(path).unwrap()).concat();
    let lines: Vec<&str> = printed.lines().collect();
    let told = |what: String| Err(format!("line {}: `{}` {what}; it prints:\n{printed}", command.line, command.text));
    match compare(&command.output, &lines) {
        _ if status.code() != Some(exit) => told(format!("ends with {status} instead of {exit}")),
        Err(line) => told(format!("doesn't print {line:?} as shown")),
        Ok(()) => Ok(()),
    }
}

#[test]
fn a_program_that_ends_isnt_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let block = |line: &str| blocks(&format!("```sh\n{line}\n```\n")).remove(0);
    let why = run(&block("opx-emu --socket a.sock --cable &"), folder.path()).unwrap_err();
    assert!(why.contains("ends with exit status: 1") && why.contains("give --socket twice"), "{why}");
}

#[test]
fn ports_are_free_and_of_this_process() {
    let text = with_free_ports("--wire listen:127.0.0.1:4791 &\n--wire connect:127.0.0.1:4791 &\n127.0.0.1:80");
    let places: Vec<SocketAddr> = text
        .split([' ', '\n'])
        .filter_map(|word| word.trim_start_matches(char::is_alphabetic).trim_start_matches(':').parse().ok())
        .collect();
    let [listen, connect, other] = places[..] else { panic!("{text}") };
    assert!(listen == connect && listen != other && listen.ip().is_loopback(), "{text}");
    assert!(TcpListener::bind(listen).is_ok() && with_free_ports("no port") == "no port");
}
