//! What a check found: a state, a sentence, and how to mend it.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It can't be told from here.
    Unknown,
    /// It works, but slower or less safely than it could.
    Warn,
    /// It doesn't work.
    Bad,
}

impl State {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "?",
            Self::Warn => "warn",
            Self::Bad => "BAD",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// How bad it is.
    pub state: State,
    /// The trouble's name, as in docs/opx-probe.md; none when all is well.
    pub trouble: Option<&'static str>,
    /// The adapter that it is about; none when it is about the node.
    pub adapter: Option<String>,
    /// What was found.
    pub text: String,
    /// How to mend it.
    pub mend: Option<String>,
}

/// Collects the findings of one check.
#[derive(Debug)]
pub struct Findings {
    check: &'static str,
    adapter: Option<String>,
    found: Vec<Finding>,
}

impl Findings {
    /// For a check.
    pub fn of(check: &'static str) -> Self {
        Self { check, adapter: None, found: Vec::new() }
    }

    /// What follows is about an adapter.
    pub fn about(&mut self, adapter: &str) -> &mut Self {
        self.adapter = Some(adapter.to_owned());
        self
    }

    fn add(&mut self, state: State, trouble: Option<&'static str>, text: String, mend: Option<String>) {
        let finding = Finding { check: self.check, state, trouble, adapter: self.adapter.clone(), text, mend };
        self.found.push(finding);
    }

    /// All is well.
    pub fn ok(&mut self, text: impl Into<String>) {
        self.add(State::Ok, None, text.into(), None);
    }

    /// It can't be told, and how it could.
    pub fn unknown(&mut self, text: impl Into<String>, mend: impl Into<String>) {
        self.add(State::Unknown, None, text.into(), Some(mend.into()));
    }

    /// It could be better.
    pub fn warn(&mut self, trouble: &'static str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(State::Warn, Some(trouble), text.into(), Some(mend.into()));
    }

    /// It doesn't work.
    pub fn bad(&mut self, trouble: &'static str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(State::Bad, Some(trouble), text.into(), Some(mend.into()));
    }

    /// Whether any trouble was found so far.
    pub fn has_trouble(&self) -> bool {
        self.found.iter().any(|finding| finding.trouble.is_some())
    }

    /// The findings.
    pub fn done(self) -> Vec<Finding> {
        self.found
    }
}
