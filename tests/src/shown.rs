//! Commands that a document shows in fenced blocks, and the output that it shows for them, so that tests can run them.
//!
//! The first word behind the fence is the language: `sh` has commands, `console` has commands behind `$ ` and what they print.
//! The words after it say who runs them. In shown output `…` stands for any text, and a line `...` for any lines.

/// A fenced block of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line that its fence is in, from 1.
    pub line: usize,
    /// The language; empty without one.
    pub language: String,
    /// The words behind the language.
    pub labels: Vec<String>,
    /// What is between the fences.
    pub lines: Vec<String>,
}

/// A command of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// For a shell; may have several lines.
    pub text: String,
    /// The lines that it prints, as shown.
    pub output: Vec<String>,
}

/// The fenced blocks of a document in Markdown.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    for (n, line) in document.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                let mut words = info.split_whitespace().map(str::to_owned);
                let language = words.next().unwrap_or_default();
                open = Some(Block { line: n + 1, language, labels: words.collect(), lines: Vec::new() });
            }
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    blocks.extend(open);
    blocks
}

impl Block {
    /// Whether a word stands behind the language.
    pub fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|has| has == label)
    }

    /// The exit code that is expected of its commands: that of a label `exit=N`, or 0.
    pub fn exit(&self) -> i32 {
        self.labels.iter().find_map(|label| label.strip_prefix("exit=")?.parse().ok()).unwrap_or(0)
    }

    /// Its commands: of `console` those behind `$ `, of `sh` one for each line that isn't a comment. A line that ends with a
    /// backslash goes on in the next.
    pub fn commands(&self) -> Vec<Command> {
        let console = self.language == "console";
        let mut commands: Vec<Command> = Vec::new();
        let mut goes_on = false;
        for (n, line) in self.lines.iter().enumerate() {
            let text = if console && !goes_on { line.strip_prefix("$ ") } else { Some(line.as_str()) };
            match (text, commands.last_mut()) {
                (Some(text), Some(command)) if goes_on => command.text += &format!("\n{text}"),
                (Some(text), _) if !console && (text.trim().is_empty() || text.trim().starts_with('#')) => continue,
                (Some(text), _) => {
                    commands.push(Command { line: self.line + 1 + n, text: text.to_owned(), output: Vec::new() });
                }
                (None, Some(command)) => command.output.push(line.clone()),
                // What a console says before the first command is nobody's.
                (None, None) => {}
            }
            goes_on = text.is_some_and(|text| text.ends_with('\\'));
        }
        commands
    }
}

/// Looks whether output is as shown; spaces count as one.
///
/// # Errors
/// With the shown line that isn't there.
pub fn compare<'a>(shown: &'a [String], printed: &[&str]) -> Result<(), &'a str> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let printed: Vec<String> = printed.iter().map(|line| words(line)).collect();
    let mut at = 0;
    let mut anywhere = false;
    for line in shown {
        if line.trim() == "..." {
            anywhere = true;
            continue;
        }
        let pattern = words(line);
        let rest = printed.get(at..).unwrap_or_default();
        let found = match anywhere {
            true => rest.iter().position(|printed| fits(&pattern, printed)),
            false => rest.first().filter(|printed| fits(&pattern, printed)).map(|_| 0),
        };
        at += found.ok_or(line.as_str())? + 1;
        anywhere = false;
    }
    match anywhere || shown.is_empty() || at == printed.len() {
        true => Ok(()),
        false => Err("(no more lines)"),
    }
}

/// Whether a line fits a pattern in which `…` stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn blocks_have_a_language_labels_and_lines() {
        let found = blocks("text\n\n```sh guest exit=1\nls\n```\n\n```\nplain\n```\n");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].language.as_str(), found[0].exit()), (3, "sh", 1));
        assert!(found[0].has("guest") && !found[0].has("sh") && found[1].language.is_empty());
        assert_eq!((found[1].exit(), &found[1].lines), (0, &lines("plain")));
    }

    #[test]
    fn commands_of_a_console_have_their_output() {
        let block = &blocks("```console\n$ ls \\\n  -l\na\nb\n$ true\n```")[0];
        let commands = block.commands();
        assert_eq!(commands.len(), 2);
        assert_eq!((commands[0].line, commands[0].text.as_str()), (2, "ls \\\n  -l"));
        assert_eq!((&commands[0].output, commands[1].output.len()), (&lines("a\nb"), 0));
    }

    #[test]
    fn commands_of_a_script_are_its_lines() {
        let block = &blocks("```sh\n# why\nls   # more\n\nls \\\n  -l\n```")[0];
        let commands: Vec<String> = block.commands().into_iter().map(|command| command.text).collect();
        assert_eq!(commands, ["ls   # more", "ls \\\n  -l"]);
    }

    #[test]
    fn output_is_compared_line_by_line_with_gaps_where_they_are_shown() {
        let printed = ["head", "a   1", "b 2", "tail"];
        assert_eq!(compare(&lines("head\na 1\n b 2\ntail"), &printed), Ok(()));
        assert_eq!(compare(&lines("head\n...\ntail"), &printed), Ok(()));
        assert_eq!(compare(&lines("...\nb …\n..."), &printed), Ok(()));
        assert_eq!(compare(&lines(""), &printed), Ok(()));
        assert_eq!(compare(&lines("head\nb 2\n..."), &printed), Err("b 2"));
        assert_eq!(compare(&lines("head\na 1\nb 2"), &printed), Err("(no more lines)"));
        assert_eq!(compare(&lines("...\nb 2\n...\na 1"), &printed), Err("a 1"));
    }

    #[test]
    fn an_ellipsis_stands_for_any_text() {
        assert!(fits("a…c", "abc") && fits("a…", "a") && fits("…", "") && fits("a…b…c", "a1b2b3c") && fits("a", "a"));
        assert!(!fits("a…c", "ab") && !fits("a", "ab") && !fits("a…b…c", "acb"));
    }
}
