//! `opx-probe export`: counters and states over HTTP, in the OpenMetrics text format.

use crate::choose::Bus;
use crate::cli;
use crate::places::Places;
use crate::registers::Registers;
use crate::snapshot::Snapshot;
use crate::{Outcome, choose};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The format's version 1.0.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bytes of a request, at most: nothing in it but its first line is of interest.
const REQUEST: usize = 8192;
/// How long one client may take in all. Clients come one after the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves until it is ended.
pub fn run(places: &Places, args: &cli::Export) -> anyhow::Result<Outcome> {
    let target = cli::Target { adapter: args.adapter.clone(), load: None, json: false };
    let registers = choose::adapter(places, &target)?;
    let refused = |error: io::Error| anyhow::anyhow!("can't listen on {}: {error}", args.listen);
    let listener = TcpListener::bind(args.listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let mut out = io::stdout();
    // Whoever started it may have closed stdout; that is no reason not to serve.
    let _ = writeln!(out, "serving http://{address}/metrics").and_then(|()| out.flush());
    for client in listener.incoming() {
        match client {
            // A client that breaks off is followed by the next.
            Ok(client) => drop(serve(&registers, client)),
            // Out of file descriptors, for example: that passes.
            Err(error) => {
                log::warn!("no client: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(Outcome::default())
}

/// Answers one request.
fn serve(registers: &Registers<Bus>, mut client: TcpStream) -> io::Result<()> {
    let (status, kind, body) = match path(&mut client)? {
        Request::Metrics => match Snapshot::take(registers) {
            Ok(snapshot) => ("200 OK", CONTENT_TYPE, metrics(&snapshot)),
            Err(error) => ("503 Service Unavailable", "text/plain", format!("{error}\n")),
        },
        Request::Other => ("404 Not Found", "text/plain", "metrics are at /metrics\n".to_owned()),
        Request::Bad => ("400 Bad Request", "text/plain", "this is no HTTP request that is known here\n".to_owned()),
    };
    client.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())?;
    hang_up(client)
}

/// What the client has sent beyond its request is read, for a while: closing with something unread would take back the answer.
fn hang_up(mut client: TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    let end = Instant::now() + PATIENCE;
    let mut rest = [0; 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        client.set_read_timeout(Some(left))?;
        if client.read(&mut rest)? == 0 {
            return Ok(());
        }
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Metrics,
    Other,
    Bad,
}

/// Reads the request, for as long as one client may take and as far as a request may be long.
fn path(client: &mut TcpStream) -> io::Result<Request> {
    let end = Instant::now() + PATIENCE;
    let mut request = Vec::new();
    let mut part = [0; 1024];
    loop {
        match parse(&request) {
            Some(request) => return Ok(request),
            None if request.len() > REQUEST => return Ok(Request::Bad),
            None => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_read_timeout(Some(left))?;
        match client.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => request.extend_from_slice(part.get(..len).unwrap_or_default()),
        }
    }
}

/// None while it isn't whole.
fn parse(bytes: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default().split('?').next();
            Some(if request.method == Some("GET") && path == Some("/metrics") {
                Request::Metrics
            } else {
                Request::Other
            })
        }
        Err(_) => Some(Request::Bad),
    }
}

/// A label's value with what must be escaped (OpenMetrics 1.0, 3.2).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text.
fn metrics(snapshot: &Snapshot) -> String {
    let adapter = format!("adapter=\"{}\"", escaped(&snapshot.adapter));
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64)>| {
        let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{suffix}{{{adapter}{labels}}} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let port = snapshot.link.port.as_ref();
    let up = port.is_some_and(|port| port.logical_state.code >= 2);
    family("opx_link_up", "gauge", "Whether the link is up.", one(f64::from(u8::from(up))));
    let state = port.map(|port| (String::new(), port.logical_state.code as f64));
    family("opx_link_logical_state", "gauge", "1 down, 2 init, 3 armed, 4 active.", state.into_iter().collect());
    let celsius = snapshot.temperature.celsius.map(|celsius| (String::new(), celsius));
    family("opx_temperature_celsius", "gauge", "The chip's temperature.", celsius.into_iter().collect());
    let contexts = &snapshot.contexts;
    let kinds = [("send", contexts.send_enabled), ("receive", contexts.receive_enabled)];
    let samples = kinds.map(|(kind, count)| (format!(",kind=\"{kind}\""), f64::from(count)));
    family("opx_contexts_enabled", "gauge", "Contexts that are on.", samples.into());
    let waiting = snapshot.engines.engines.iter();
    let samples = waiting.map(|e| (format!(",engine=\"{}\"", e.index), e.waiting as f64)).collect();
    family("opx_sdma_descriptors_waiting", "gauge", "Descriptors that wait or are at work.", samples);
    let errors = snapshot.errors.errors.len() as f64;
    family("opx_errors_standing", "gauge", "Bits that are set in error registers.", one(errors));
    // Whole numbers: a counter of 64 bits doesn't fit into a float.
    let _ = writeln!(text, "# TYPE opx_counter counter\n# HELP opx_counter The chip's counters, under hfi1's names.");
    for counter in &snapshot.counters.counters {
        let index = counter.index.map_or(String::new(), |index| format!(",index=\"{index}\""));
        let name = escaped(counter.name);
        let _ = writeln!(text, "opx_counter_total{{{adapter},name=\"{name}\"{index}}} {}", counter.value);
    }
    text + "# EOF\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(parse(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Request::Metrics));
        assert_eq!(parse(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), Some(Request::Metrics));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), Some(Request::Other));
        assert_eq!(parse(b"POST /metrics HTTP/1.1\r\n\r\n"), Some(Request::Other));
        assert_eq!(parse(b"GET /metrics HT"), None);
        assert_eq!(parse(b"\x16\x03\x01"), Some(Request::Bad));
        assert_eq!(escaped("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
