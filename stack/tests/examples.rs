//! The examples do what they say: each is run as it is, in its short form. They check their own results.

use std::path::PathBuf;
use std::process::Command;

/// How they are run by hand, before the example's name.
const BY_HAND: [&str; 5] = ["cargo", "run", "-p", "opx-stack", "--example"];

/// Cargo builds the examples before a package's tests, next to where those lie.
fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join("examples").join(name)
}

fn run(name: &str, arguments: &[&str]) -> String {
    let program = example(name);
    let output = Command::new(&program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{}: {error}; all tests build it, and so does {} {name}", program.display(), BY_HAND.join(" "))
    });
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}{err}", output.status);
    out.into_owned()
}

#[test]
fn hello() {
    assert!(run("hello", &[]).contains("hello, Omni-Path"));
}

#[test]
fn file_copy() {
    let folder = tempfile::tempdir().unwrap();
    // The last piece is full: an empty one tells the end.
    for len in [0, 1, 256 << 10, 700_001] {
        let (file, copy) = (folder.path().join("file"), folder.path().join("copy"));
        std::fs::write(&file, (0..len).map(|n| ((n * 7) >> 3) as u8).collect::<Vec<_>>()).unwrap();
        run("file_copy", &[file.to_str().unwrap(), copy.to_str().unwrap()]);
        assert_eq!(std::fs::read(file).unwrap(), std::fs::read(copy).unwrap());
    }
}

#[test]
fn ring() {
    assert!(run("ring", &["5", "20"]).contains("the token has come to 200"));
}

#[test]
fn halo() {
    assert!(run("halo", &["3", "30"]).contains("as with one rank"));
}
