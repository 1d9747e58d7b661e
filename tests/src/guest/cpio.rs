//! A deterministic cpio archive (newc): the same entries give the same bytes.

use std::collections::BTreeMap;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder,
    /// A file with its permissions.
    File(u32, Vec<u8>),
    /// A symbolic link to a path.
    Link(String),
}

/// Writes entries, given by path without a leading slash. Folders above an entry are made.
pub fn archive(entries: &BTreeMap<String, Entry>) -> Vec<u8> {
    let mut all: BTreeMap<&str, &Entry> = BTreeMap::new();
    for (path, entry) in entries {
        for (at, _) in path.match_indices('/') {
            all.entry(&path[..at]).or_insert(&Entry::Folder);
        }
        all.insert(path, entry);
    }
    let mut out = Vec::new();
    for (inode, (path, entry)) in (1..).zip(&all) {
        match entry {
            Entry::Folder => push(&mut out, inode, path, 0o040_755, &[]),
            Entry::File(mode, bytes) => push(&mut out, inode, path, 0o100_000 | mode, bytes),
            Entry::Link(target) => push(&mut out, inode, path, 0o120_777, target.as_bytes()),
        }
    }
    push(&mut out, 0, "TRAILER!!!", 0, &[]);
    out
}

/// One entry: header, name and content, each padded to 4 bytes. Owner, time and device are 0, so nothing of the machine
/// gets in.
fn push(out: &mut Vec<u8>, inode: u32, path: &str, mode: u32, content: &[u8]) {
    let (links, name_len) = (1, path.len() + 1);
    let fields = [inode, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, name_len as u32, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_first_and_all_is_padded() {
        let mut entries = BTreeMap::new();
        entries.insert("usr/bin/x".to_owned(), Entry::File(0o755, b"hello".to_vec()));
        entries.insert("bin".to_owned(), Entry::Link("elsewhere".to_owned()));
        let bytes = archive(&entries);
        assert_eq!(bytes, archive(&entries.clone()));
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let at = |what: &str| text.find(what).unwrap();
        assert!(at("bin\0") < at("usr\0") && at("usr\0") < at("usr/bin\0") && at("usr/bin\0") < at("usr/bin/x\0"));
        // newc: the file's size is the seventh field.
        let file = at("usr/bin/x\0") - 110;
        assert_eq!(&text[file..file + 6], "070701");
        assert_eq!(&text[file + 6 + 6 * 8..file + 6 + 7 * 8], "00000005");
        assert!(text.contains("TRAILER!!!"));
    }
}
