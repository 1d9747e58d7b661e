//! Manual pages and shell completions of a program, made from its own command line: `PROGRAM --manual DIR` writes them, in the
//! layout of /usr/share.

use clap::CommandFactory;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where each shell looks for completions, below /usr/share.
const SHELLS: [(clap_complete::Shell, &str); 3] = [
    (clap_complete::Shell::Bash, "bash-completion/completions"),
    (clap_complete::Shell::Fish, "fish/vendor_completions.d"),
    (clap_complete::Shell::Zsh, "zsh/vendor-completions"),
];

/// The folder, when the arguments (without the program's name) ask for manual pages and for nothing else.
pub fn asked(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(option), Some(folder), None) if option == "--manual" => Some(folder.into()),
        _ => None,
    }
}

/// Writes them below `folder`.
///
/// # Errors
/// When a file can't be written; the message names the folder.
pub fn write<C: CommandFactory>(folder: &Path) -> io::Result<()> {
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("can't write manual pages below {}: {error}", folder.display()))
    };
    let make = |below: &str| -> io::Result<PathBuf> {
        let made = folder.join(below);
        fs::create_dir_all(&made).map(|()| made).map_err(told)
    };
    clap_mangen::generate_to(C::command(), make("man/man1")?).map_err(told)?;
    for (shell, below) in SHELLS {
        let name = C::command().get_name().to_owned();
        let folder = make(below)?;
        let file = clap_complete::generate_to(shell, &mut C::command(), &name, &folder).map_err(told)?;
        // It is found there by the program's name alone.
        if shell == clap_complete::Shell::Bash {
            fs::rename(&file, folder.join(name)).map_err(told)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(name = "opx-thing", version, about = "A thing.")]
    struct Thing {
        /// How much of it.
        #[arg(long)]
        much: Option<u32>,
    }

    #[test]
    fn a_folder_is_asked_for_alone() {
        let ask = |arguments: &[&str]| asked(arguments.iter().map(OsString::from));
        assert_eq!(ask(&["--manual", "a"]), Some("a".into()));
        assert_eq!(ask(&["--manual"]), None);
        assert_eq!(ask(&["--manual", "a", "b"]), None);
        assert_eq!(ask(&["list"]), None);
    }

    #[test]
    fn pages_and_completions_lie_where_they_are_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        write::<Thing>(folder.path()).unwrap();
        for file in [
            "man/man1/opx-thing.1",
            "bash-completion/completions/opx-thing",
            "fish/vendor_completions.d/opx-thing.fish",
            "zsh/vendor-completions/_opx-thing",
        ] {
            assert!(fs::read_to_string(folder.path().join(file)).unwrap().contains("much"), "{file}");
        }
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write::<Thing>(&file).unwrap_err().to_string().contains("file"));
    }
}
