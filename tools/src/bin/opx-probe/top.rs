//! `opx-probe top`: an adapter on a whole screen, looked at again and again.

use crate::choose::Bus;
use crate::cli;
use crate::places::Places;
use crate::registers::Registers;
use crate::sdma::Engine;
use crate::snapshot::{FLITS, PACKETS, Snapshot};
use crate::{Outcome, choose};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table};
use std::io::{self, IsTerminal};
use std::time::Instant;

/// The least screen on which everything has room.
const LEAST: (u16, u16) = (80, 24);
/// What the link carries of payload (docs/performance.md).
const PAYLOAD_GBPS: f64 = 96.0;

/// Shows it until `q`, Escape or Ctrl-C.
pub fn run(places: &Places, args: &cli::Top) -> anyhow::Result<Outcome> {
    if !io::stdout().is_terminal() {
        anyhow::bail!("top needs a terminal; `opx-probe counters --watch` and `opx-probe export` don't");
    }
    let target = cli::Target { adapter: args.adapter.clone(), load: None, json: false };
    let registers = choose::adapter(places, &target)?;
    let (columns, rows) = ratatui::crossterm::terminal::size()?;
    if columns < LEAST.0 || rows < LEAST.1 {
        anyhow::bail!("this terminal has {columns} x {rows} characters, top needs {} x {}", LEAST.0, LEAST.1);
    }
    let mut terminal = ratatui::try_init()?;
    let shown = refresh(&registers, &mut terminal, args);
    ratatui::try_restore()?;
    shown.map(|()| Outcome::default())
}

fn refresh(registers: &Registers<Bus>, terminal: &mut ratatui::DefaultTerminal, args: &cli::Top) -> anyhow::Result<()> {
    let mut before = Snapshot::for_screen(registers)?;
    let mut now = before.clone();
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        terminal.draw(|frame| draw(frame, &before, &now))?;
        let next = Instant::now() + args.interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if event::poll(left)? {
                match event::read()? {
                    event if ends(&event) => return Ok(()),
                    Event::Resize(..) => {
                        terminal.draw(|frame| draw(frame, &before, &now))?;
                    }
                    _ => {}
                }
            }
        }
        before = std::mem::replace(&mut now, Snapshot::for_screen(registers)?);
    }
    Ok(())
}

fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

/// Draws the whole screen.
fn draw(frame: &mut Frame<'_>, before: &Snapshot, now: &Snapshot) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text =
            format!("{} x {} characters: too small, {} x {} are needed", area.width, area.height, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [head, middle, foot] =
        Layout::vertical([Constraint::Length(5), Constraint::Min(13), Constraint::Length(6)]).areas(area);
    let [engines, contexts] = Layout::horizontal([Constraint::Length(49), Constraint::Min(31)]).areas(middle);
    frame.render_widget(summary(before, now), head);
    draw_engines(frame, engines, before, now);
    draw_contexts(frame, contexts, now);
    frame.render_widget(errors(now, foot), foot);
}

fn summary<'a>(before: &Snapshot, now: &Snapshot) -> Paragraph<'a> {
    let link = match &now.link.port {
        None => "link side held in reset".to_owned(),
        Some(port) => {
            format!("{} / {}, LID {}", port.logical_state.name, port.physical_state.name, port.lid)
        }
    };
    let celsius = now.temperature.celsius.map_or("-".to_owned(), |celsius| format!("{celsius:.1} °C"));
    let rates = |way: usize| {
        let rate = |names: [&str; 2]| names.get(way).and_then(|name| now.rate(before, name));
        match (rate(FLITS), rate(PACKETS)) {
            (Some(flits), Some(packets)) => {
                let gigabits = flits * 64.0 / 1e9;
                format!("{gigabits:>7.3} Gb/s ({:>4.1} %) {packets:>12.0} packets/s", gigabits / PAYLOAD_GBPS * 100.0)
            }
            _ => "      - ".to_owned(),
        }
    };
    let lines = vec![
        Line::from(format!("link  {link}   {celsius}")),
        Line::from(format!("out   {}", rates(0))),
        Line::from(format!("in    {}", rates(1))),
    ];
    Paragraph::new(lines).block(Block::bordered().title(format!(" {} ", now.adapter)).title_bottom(" q ends "))
}

fn header(names: &[&'static str]) -> Row<'static> {
    Row::new(names.to_vec()).style(Style::new().add_modifier(Modifier::BOLD))
}

/// Two engines in a row: all sixteen have room on the least screen.
fn draw_engines(frame: &mut Frame<'_>, area: Rect, before: &Snapshot, now: &Snapshot) {
    let seconds = now.at.since(before.at).as_secs_f64();
    let engines = &now.engines.engines;
    let cells = |engine: &Engine| {
        let earlier = before.engines.engines.iter().find(|earlier| earlier.index == engine.index);
        // The hardware's counter has 32 bits.
        let grown = earlier.map(|earlier| (engine.fetched as u32).wrapping_sub(earlier.fetched as u32));
        let rate = grown.filter(|_| seconds > 0.0).map(|grown| format!("{:.0}", f64::from(grown) / seconds));
        let state = if engine.halted && engine.enabled { engine.state().red() } else { engine.state().into() };
        [
            engine.index.to_string().into(),
            state,
            engine.waiting.to_string().into(),
            rate.unwrap_or("-".to_owned()).into(),
        ]
    };
    let half = engines.len().div_ceil(2);
    let rows = (0..half).map(|row| {
        let pair = [engines.get(row), engines.get(row + half)];
        Row::new(pair.into_iter().flatten().flat_map(cells).collect::<Vec<Span<'_>>>())
    });
    let widths = [2, 6, 5, 7, 2, 6, 5, 7].map(Constraint::Length);
    let on = engines.iter().filter(|engine| engine.enabled).count();
    let names = ["", "state", "ready", "desc/s", "", "state", "ready", "desc/s"];
    let table = Table::new(rows, widths).header(header(&names));
    let title = format!(" SDMA engines {on} of {} ", engines.len());
    frame.render_widget(table.block(Block::bordered().title(title)), area);
}

/// How many of something are on, and that not all have room.
fn title(what: &str, on: u32, total: u32, area: Rect) -> String {
    let room = u32::from(area.height.saturating_sub(3));
    let first = if on > room { format!(", first {room}") } else { String::new() };
    format!(" {what} {on} of {total}{first} ")
}

fn draw_contexts(frame: &mut Frame<'_>, area: Rect, now: &Snapshot) {
    let contexts = &now.contexts;
    let [send_area, receive_area] =
        Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area);
    let rows = contexts.send.iter().map(|c| {
        let state = if c.halted { "halted" } else { "on" };
        let row = Row::new(vec![c.index.to_string(), state.to_owned(), c.depth_blocks.to_string(), c.free.to_string()]);
        if c.halted { row.red() } else { row }
    });
    let widths = [6, 7, 6, 7].map(Constraint::Length);
    let name = title("send contexts", contexts.send_enabled, contexts.send_total, send_area);
    let table = Table::new(rows, widths).header(header(&["number", "state", "blocks", "freed"]));
    frame.render_widget(table.block(Block::bordered().title(name)), send_area);

    let rows = contexts.receive.iter().map(|c| {
        let waiting = c.header_tail.saturating_sub(c.header_head);
        let row = Row::new(vec![
            c.index.to_string(),
            c.header_entries.to_string(),
            waiting.to_string(),
            c.dropped.to_string(),
        ]);
        if c.dropped > 0 { row.yellow() } else { row }
    });
    let name = title("receive contexts", contexts.receive_enabled, contexts.receive_total, receive_area);
    let table = Table::new(rows, widths).header(header(&["number", "entries", "dwords", "dropped"]));
    frame.render_widget(table.block(Block::bordered().title(name)), receive_area);
}

fn errors<'a>(now: &Snapshot, area: Rect) -> Paragraph<'a> {
    let room = area.height.saturating_sub(2) as usize;
    let found = &now.errors.errors;
    let mut lines: Vec<Line<'_>> = found
        .iter()
        .take(room)
        .map(|error| Line::from(format!("{}.{}: {}", error.register, error.bit, error.sentence)).red())
        .collect();
    if lines.is_empty() {
        lines.push(Line::from("none"));
    }
    let title = match found.len() {
        count if count > room => format!(" errors: {count}, see opx-probe errors "),
        _ => " errors ".to_owned(),
    };
    Paragraph::new(lines).block(Block::bordered().title(title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_bus::fault::{Fault, Faulty};
    use opx_defs::csr;
    use opx_emu::{Config, EmuBus, Lab, Pacing};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyEvent;
    use std::time::Duration;

    fn screen(before: &Snapshot, now: &Snapshot, columns: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, before, now)).unwrap();
        terminal.backend().to_string()
    }

    fn registers(values: &[(csr::Csr, u64)]) -> Registers<Faulty<EmuBus>> {
        let stuck = |(csr, value): &(csr::Csr, u64)| Fault::Stuck { offset: csr.off(), mask: u64::MAX, value: *value };
        let bus = Lab::new(Pacing::Virtual).add(Config::default()).bus();
        Registers::new(Faulty::new(bus, values.iter().map(stuck).collect())).unwrap()
    }

    #[test]
    fn a_quiet_adapter_fits_the_least_screen() {
        let now = Snapshot::for_screen(&registers(&[])).unwrap();
        insta::assert_snapshot!(screen(&now, &now, 80, 24));
    }

    #[test]
    fn a_busy_adapter_shows_rates_contexts_and_errors() {
        use opx_bus::PciFunction as _;
        let base = [
            (csr::CCE_DC_CTRL, 0),
            (csr::DCC_CFG_PORT_CONFIG, csr::DCC_CFG_PORT_CONFIG::LINK_STATE.put(4)),
            (csr::DC_DC8051_STS_CUR_STATE, 0xa0_0050),
            (csr::SEND_CTXT_CTRL, 1 | 64 << 48),
            (csr::SEND_CTXT_STATUS, 1),
            (csr::SEND_DMA_ERR_STATUS, 0b10),
        ];
        let count = |value| {
            [&base[..], &[(csr::DCC_PRF_PORT_XMIT_DATA_CNT, value), (csr::DCC_PRF_PORT_XMIT_PKTS_CNT, value / 1000)]]
                .concat()
        };
        let before = Snapshot::for_screen(&registers(&count(0))).unwrap();
        let later = registers(&count(1_000_000_000));
        later.bus().pause(Duration::from_secs(1));
        let mut now = Snapshot::for_screen(&later).unwrap();
        // Two adapters' clocks: a second between the looks, to the nanosecond.
        now.at = before.at + Duration::from_secs(1);
        let text = screen(&before, &now, 80, 24);
        assert!(text.contains("64.000 Gb/s (66.7 %)") && text.contains("1000000 packets/s"), "{text}");
        assert!(text.contains("ACTIVE / LINKUP") && text.contains("send contexts 1 of 160 "), "{text}");
        assert!(text.contains("halted") && text.contains("SEND_DMA_ERR_STATUS.SDMA_CSR_PARITY_ERR"), "{text}");
        insta::assert_snapshot!(text);
    }

    /// A read of a register takes about a microsecond on PCI Express, in which the processor waits: that, not the drawing, is what
    /// a refresh costs.
    #[test]
    fn a_refresh_reads_few_registers() {
        let registers = registers(&[(csr::CCE_DC_CTRL, 0)]);
        let before = registers.bus().reads();
        Snapshot::for_screen(&registers).unwrap();
        let screen = registers.bus().reads() - before;
        Snapshot::take(&registers).unwrap();
        let all = registers.bus().reads() - before - screen;
        assert!(screen < 1000 && screen < all * 2 / 3, "{screen} of {all}");
    }

    #[test]
    fn a_small_screen_is_told() {
        let now = Snapshot::for_screen(&registers(&[])).unwrap();
        let text = screen(&now, &now, 60, 10);
        assert!(text.contains("60 x 10 characters: too small, 80 x 24"), "{text}");
    }

    #[test]
    fn keys_end_it() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(ends(&key(KeyCode::Char('q'), KeyModifiers::NONE)) && ends(&key(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(
            ends(&key(KeyCode::Char('c'), KeyModifiers::CONTROL))
                && !ends(&key(KeyCode::Char('c'), KeyModifiers::NONE))
        );
        assert!(!ends(&Event::FocusGained));
    }
}
