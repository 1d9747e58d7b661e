//! A file is copied over a cable between two emulated adapters, in pieces of which several are under way at a time:
//!
//!     cargo run -p opx-stack --example file_copy [FILE COPY]
//!
//! Without names 4 MiB of made-up data are copied. The copy is compared with the file at the end.

mod emulated;

use anyhow::{Context, ensure};
use opx_emu::EmuBus;
use opx_stack::{Address, Completion, Config, Domain, Outgoing, PollSet, SendError};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PIECE: usize = 256 << 10;
/// Pieces under way at a time.
const WINDOW: usize = 8;
const LIMIT: Option<Duration> = Some(Duration::from_secs(120));

/// Sends the file piece by piece; the data of each completion tells its number. A piece that isn't full is the last.
fn send(set: &mut PollSet<EmuBus>, to: Address, file: &Path) -> anyhow::Result<()> {
    let id = set.open(Config::default())?;
    let mut file = File::open(file)?;
    let (mut number, mut under_way, mut last) = (0u32, 0, false);
    while !last || under_way > 0 {
        if last || under_way == WINDOW {
            let done = set.wait(LIMIT)?.completion;
            ensure!(matches!(done, Completion::Sent { .. }), "{done:?}");
            under_way -= 1;
            continue;
        }
        let mut piece = Vec::with_capacity(PIECE);
        last = (&mut file).take(PIECE as u64).read_to_end(&mut piece)? < PIECE;
        let mut message = Outgoing { data: Some(number), ..Outgoing::new(to, piece, number.into()) };
        while let Err(refused) = set.endpoint(id)?.send_message(message.clone()) {
            ensure!(matches!(refused.error, SendError::Again(_)), refused.error);
            set.progress()?;
            message.buffer = refused.buffer;
        }
        (number, under_way) = (number + 1, under_way + 1);
    }
    Ok(())
}

/// Writes the pieces to where they belong, until all before the last are there.
fn receive(set: &mut PollSet<EmuBus>, id: opx_stack::EndpointId, copy: &Path) -> anyhow::Result<usize> {
    let mut copy = File::create(copy)?;
    for _ in 0..WINDOW {
        set.endpoint(id)?.receive(None, vec![0; PIECE], 0).map_err(|refused| refused.error)?;
    }
    let (mut pieces, mut all) = (0, None);
    while all != Some(pieces) {
        let Completion::Received { data: Some(number), len, buffer, .. } = set.wait(LIMIT)?.completion else {
            anyhow::bail!("that was no piece");
        };
        let piece = buffer.into_vec();
        copy.seek(SeekFrom::Start(u64::from(number) * PIECE as u64))?;
        copy.write_all(piece.get(..len).context("longer than its buffer")?)?;
        pieces += 1;
        if len < PIECE {
            all = Some(number + 1);
        }
        set.endpoint(id)?.receive(None, piece, 0).map_err(|refused| refused.error)?;
    }
    Ok(pieces as usize)
}

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut names = std::env::args_os().skip(1).map(PathBuf::from);
    let (file, copy) = match (names.next(), names.next()) {
        (Some(file), Some(copy)) => (file, copy),
        (None, _) => {
            let file = folder.path().join("file");
            std::fs::write(&file, (0..(4u32 << 20) + 123).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect::<Vec<_>>())?;
            (file, folder.path().join("copy"))
        }
        (Some(_), None) => anyhow::bail!("name the file and its copy, or neither"),
    };

    let (_lab, left, right) = emulated::two_adapters()?;
    let mut theirs = Domain::open(&right)?.poll_set();
    let receiver = theirs.open(Config::default())?;
    let to = theirs.endpoint(receiver)?.address();
    let pieces = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&mut Domain::open(&left)?.poll_set(), to, &file));
        let pieces = receive(&mut theirs, receiver, &copy)?;
        // The sender is done once it knows that all has come.
        while !sender.is_finished() {
            theirs.progress()?;
        }
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        anyhow::Ok(pieces)
    })?;
    ensure!(std::fs::read(&file)? == std::fs::read(&copy)?, "the copy isn't the file");
    println!("{} bytes were copied in {pieces} pieces", std::fs::metadata(&copy)?.len());
    Ok(())
}
