//! What commands that look at an adapter have in common: a document of JSON, or text.

use crate::choose::Bus;
use crate::cli::Target;
use crate::registers::Registers;
use crate::{Outcome, render};
use opx_bus::PciFunction as _;
use serde::Serialize;

/// Something that was read from an adapter.
pub trait View: Serialize {
    /// As people read it, in 80 columns.
    fn text(&self) -> String;

    /// Whether it is trouble.
    fn trouble(&self) -> bool {
        false
    }
}

/// The JSON form: version and adapter before the rest.
#[derive(Serialize)]
struct Document<'a, T> {
    version: u32,
    adapter: &'a str,
    #[serde(flatten)]
    view: &'a T,
}

/// Shows what was read.
pub fn show<T: View>(registers: &Registers<Bus>, target: &Target, view: &T) -> anyhow::Result<Outcome> {
    let adapter = registers.bus().name();
    let text = if target.json {
        render::json(&Document { version: render::JSON_VERSION, adapter, view })?
    } else {
        view.text()
    };
    Ok(Outcome { text, problem: None, trouble: view.trouble() })
}

/// Rows of a name and a value.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    render::table(&[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

/// "yes" or "no".
pub fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}
