//! Files that others made: regular ones only, and so much of each. Anyone may have put a pipe or a device in a file's place.

use rustix::fs::OFlags;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// No state dump is longer (docs/observability.md); of a longer file so much is read.
const MOST_BYTES: u64 = 16 << 20;

/// Opens a regular file.
///
/// # Errors
/// When it is something else, or can't be opened.
pub fn open(path: &Path) -> io::Result<File> {
    // Before it is opened: a device may do something when it is.
    is_regular(&std::fs::metadata(path)?)?;
    // Should it have become a pipe meanwhile, nobody waits for its writer.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// What is in a regular file, up to [`MOST_BYTES`].
///
/// # Errors
/// When it is something else, or can't be read.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "it is a folder" } else { "it isn't a regular file" };
    Err(io::Error::new(
        ErrorKind::InvalidInput,
        format!("{what}; name a flight recorder (.rec) or a state dump (.out)"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn pipes_and_folders_arent_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("x.rec");
        // Nobody writes to it: opening it in the usual way would wait for ever.
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(open(&pipe).unwrap_err().to_string().contains("isn't a regular file"));
        assert!(bytes(dir.path()).unwrap_err().to_string().contains("is a folder"));
        assert!(bytes(Path::new("/dev/zero")).is_err());
        let file = dir.path().join("x.out");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(bytes(&file).unwrap(), b"x");
    }
}
