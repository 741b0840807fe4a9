//! Figures for Prometheus, in its text format 0.0.4, over the least of HTTP that carries them.
//!
//! Each of some scrapers at a time has a thread for 7 s at most, and 8 KiB for its request: a slow or hostile scraper
//! delays no other.

use crate::counted::Counted;
use crate::socket::{bind_socket, identity};
use parking_lot::Mutex;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use qmk_abi::rpc::{ErrorCode, MachineStats};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Time for a request to come, and for the reply to go.
const READ: Duration = Duration::from_secs(2);
const WRITE: Duration = Duration::from_secs(5);
/// Bytes of a request.
const HEAD: usize = 8 << 10;
/// Scrapers that are answered at one time; the others wait for one of them to end.
const SCRAPERS: usize = 64;

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket, mode 0600.
    Unix(PathBuf),
    /// A port of the loopback interface.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|p| !p.is_empty()) {
            return Ok(Address::Unix(path.into()));
        }
        let address = text.parse::<SocketAddr>();
        let address =
            address.map_err(|_| "expected unix:PATH or 127.0.0.1:PORT; names are not looked up".to_string())?;
        let local = match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        match local {
            true => Ok(Address::Tcp(address)),
            false => Err(format!(
                "{} can be reached from other machines, and anyone there could read the metrics; use 127.0.0.1:{}, or \
                 unix:PATH behind a proxy that asks who is calling",
                address.ip(),
                address.port()
            )),
        }
    }
}

/// Counters of the server. A process has one value, made when metrics are asked for.
pub(crate) struct Counts {
    registry: Registry,
    requests: IntCounterVec,
    latency: HistogramVec,
    errors: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) accepted: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
    machine: OfMachine,
    /// Held while the figures are set and read.
    rendering: Mutex<()>,
}

/// A metric, and where its value comes from.
type Figure<M> = (M, fn(&MachineStats) -> u64);

/// Figures that the machine gives at each scrape.
struct OfMachine {
    gauges: Vec<Figure<IntGauge>>,
    counters: Vec<Figure<IntCounter>>,
    strands: IntGaugeVec,
    jobs: IntGaugeVec,
    ended: IntCounterVec,
    tenant_qubits: IntGaugeVec,
    tenant_sessions: IntGaugeVec,
    tenant_magic: IntCounterVec,
    uptime: Gauge,
    memory: IntGauge,
}

static COUNTS: OnceLock<Counts> = OnceLock::new();

/// Counts something, if anyone asked for metrics.
pub(crate) fn count(f: impl FnOnce(&Counts)) {
    if let Some(counts) = COUNTS.get() {
        f(counts);
    }
}

/// The time, if it is to be measured.
pub(crate) fn now() -> Option<Instant> {
    COUNTS.get().map(|_| Instant::now())
}

impl Counts {
    fn new() -> prometheus::Result<Counts> {
        let r = Registry::new();
        macro_rules! add {
            ($e:expr) => {{
                let metric = $e?;
                r.register(Box::new(metric.clone()))?;
                metric
            }};
        }
        let opts = |name: &str, help: &str| Opts::new(format!("qmk_{name}"), help);
        let buckets = vec![1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
        let latency = "Time from a request to its result, waiting for jobs included.";
        let latency = HistogramOpts::new("qmk_request_seconds", latency).buckets(buckets);
        type Read = fn(&MachineStats) -> u64;
        let gauges: [(&str, &str, Read); 7] = [
            ("qubits", "Logical qubits of the machine.", |s| s.logical_qubits),
            ("qubits_free", "Logical qubits that no one holds.", |s| s.logical_qubits_free),
            ("magic_stock", "Magic states in stock.", |s| s.magic_stock),
            ("magic_buffer", "Magic states that can be kept in stock.", |s| s.magic_buffer),
            ("decoder_backlog", "Patches and epochs that are not decoded yet.", |s| s.decoder_backlog),
            ("pairs_due", "Raw entangled pairs that the link still has to make.", |s| s.pairs_due),
            ("tenants", "Tenants that the machine knows.", |s| s.tenants.len() as u64),
        ];
        let counters: [(&str, &str, Read); 3] = [
            ("epochs_total", "Epochs of the machine.", |s| s.epoch),
            ("instructions_total", "Kernel instructions issued.", |s| s.instructions),
            ("magic_spent_total", "Magic states spent.", |s| s.magic_spent),
        ];
        let mut machine = OfMachine {
            gauges: Vec::new(),
            counters: Vec::new(),
            strands: add!(IntGaugeVec::new(opts("strands", "Strands by state."), &["state"])),
            jobs: add!(IntGaugeVec::new(opts("jobs", "Unfinished jobs."), &["tenant", "state"])),
            ended: add!(IntCounterVec::new(opts("jobs_ended_total", "Jobs that ended."), &["tenant", "state"])),
            tenant_qubits: add!(IntGaugeVec::new(opts("tenant_qubits", "Logical qubits held."), &["tenant"])),
            tenant_sessions: add!(IntGaugeVec::new(opts("tenant_sessions", "Open sessions."), &["tenant"])),
            tenant_magic: add!(IntCounterVec::new(
                opts("tenant_magic_spent_total", "Magic states spent by a tenant."),
                &["tenant"]
            )),
            uptime: add!(Gauge::with_opts(opts("uptime_seconds", "Time since the machine was started."))),
            memory: add!(IntGauge::new("process_resident_memory_bytes", "Resident memory of the server.")),
        };
        for (name, help, read) in gauges {
            machine.gauges.push((add!(IntGauge::with_opts(opts(name, help))), read));
        }
        for (name, help, read) in counters {
            machine.counters.push((add!(IntCounter::with_opts(opts(name, help))), read));
        }
        Ok(Counts {
            requests: add!(IntCounterVec::new(opts("requests_total", "Requests by method."), &["method"])),
            latency: add!(HistogramVec::new(latency, &["method"])),
            errors: add!(IntCounterVec::new(opts("errors_total", "Requests refused, by error."), &["code"])),
            connections: add!(IntGauge::with_opts(opts("connections", "Open connections."))),
            accepted: add!(IntCounter::with_opts(opts("connections_total", "Connections accepted."))),
            refused: add!(IntCounter::with_opts(opts("connections_refused_total", "Connections turned away."))),
            bytes_in: add!(IntCounter::with_opts(opts("received_bytes_total", "Bytes received from clients."))),
            bytes_out: add!(IntCounter::with_opts(opts("sent_bytes_total", "Bytes sent to clients."))),
            machine,
            rendering: Mutex::new(()),
            registry: r,
        })
    }

    /// A request that got as far as having a method.
    pub(crate) fn request(&self, method: &'static str, start: Option<Instant>) {
        self.requests.with_label_values(&[method]).inc();
        if let Some(start) = start {
            self.latency.with_label_values(&[method]).observe(start.elapsed().as_secs_f64());
        }
    }

    pub(crate) fn error(&self, code: ErrorCode) {
        self.errors.with_label_values(&[code.name()]).inc();
    }

    fn render(&self, stats: &MachineStats) -> Vec<u8> {
        let _one = self.rendering.lock();
        let m = &self.machine;
        for (gauge, read) in &m.gauges {
            gauge.set(i64::try_from(read(stats)).unwrap_or(i64::MAX));
        }
        for (counter, read) in &m.counters {
            counter.reset();
            counter.inc_by(read(stats));
        }
        // Tenants come and go.
        m.jobs.reset();
        m.ended.reset();
        m.tenant_qubits.reset();
        m.tenant_sessions.reset();
        m.tenant_magic.reset();
        let states = [
            ("waiting", stats.strands_waiting),
            ("running", stats.strands_running),
            ("draining", stats.strands_draining),
        ];
        for (state, n) in states {
            m.strands.with_label_values(&[state]).set(n as i64);
        }
        for t in &stats.tenants {
            let name = t.tenant.as_str();
            for (state, n) in t.jobs.by_state() {
                match state {
                    "queued" | "running" => m.jobs.with_label_values(&[name, state]).set(n as i64),
                    _ => m.ended.with_label_values(&[name, state]).inc_by(n),
                }
            }
            m.tenant_qubits.with_label_values(&[name]).set(t.logical_qubits as i64);
            m.tenant_sessions.with_label_values(&[name]).set(t.sessions as i64);
            m.tenant_magic.with_label_values(&[name]).inc_by(t.magic_spent);
        }
        m.uptime.set(stats.uptime_ms as f64 / 1e3);
        if let Some(bytes) = resident() {
            m.memory.set(bytes as i64);
        }
        let mut out = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            Ok(()) => out,
            Err(e) => {
                tracing::error!(error = %e, "metrics cannot be written");
                Vec::new()
            }
        }
    }
}

/// Resident memory, where the system tells.
fn resident() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

trait Stream: Read + Write + Send {
    fn limit(&self, read: Duration, write: Duration) -> io::Result<()>;
}

macro_rules! stream {
    ($($t:ty),*) => { $(impl Stream for $t {
        fn limit(&self, read: Duration, write: Duration) -> io::Result<()> {
            self.set_nonblocking(false)?;
            self.set_read_timeout(Some(read))?;
            self.set_write_timeout(Some(write))
        }
    })* };
}
stream!(UnixStream, TcpStream);

/// Serves metrics. The socket goes with the value.
pub struct Exporter {
    path: Option<(PathBuf, (u64, u64))>,
    /// Where it listens.
    pub address: Address,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some((path, opened)) = &self.path
            && identity(path).is_ok_and(|i| i == *opened)
        {
            _ = std::fs::remove_file(path);
        }
    }
}

impl Exporter {
    /// Starts to count, and to serve the counts.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn start(
        address: &Address,
        machine: impl Fn() -> MachineStats + Send + Sync + 'static,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Exporter> {
        let (listener, exporter) = match address {
            Address::Unix(path) => {
                let listener = bind_socket(path, 0o600)?;
                let path = Some((path.clone(), identity(path)?));
                (Listener::Unix(listener), Exporter { path, address: address.clone() })
            }
            Address::Tcp(address) => {
                let at = |e: io::Error| io::Error::new(e.kind(), format!("metrics at {address}: {e}"));
                let listener = TcpListener::bind(address).map_err(at)?;
                listener.set_nonblocking(true)?;
                let address = Address::Tcp(listener.local_addr()?);
                (Listener::Tcp(listener), Exporter { path: None, address })
            }
        };
        let counts = match COUNTS.get() {
            Some(counts) => counts,
            None => {
                let counts = Counts::new().map_err(io::Error::other)?;
                COUNTS.get_or_init(|| counts)
            }
        };
        let (machine, scrapers) = (Arc::new(machine), Arc::new(AtomicUsize::new(0)));
        let run = move || {
            while !stop.load(Ordering::Relaxed) {
                if scrapers.load(Ordering::SeqCst) >= SCRAPERS {
                    thread::sleep(Duration::from_millis(50));
                    continue;
                }
                let accepted: io::Result<Box<dyn Stream>> = match &listener {
                    Listener::Unix(l) => l.accept().map(|(s, _)| Box::new(s) as _),
                    Listener::Tcp(l) => l.accept().map(|(s, _)| Box::new(s) as _),
                };
                match accepted {
                    Ok(mut stream) => {
                        let (machine, counted) = (machine.clone(), Counted::begin(&scrapers));
                        let serve = move || {
                            let _counted = counted;
                            // A scraper that fails tries again.
                            _ = answer(&mut *stream, || counts.render(&machine()));
                        };
                        _ = thread::Builder::new().name("scraper".into()).spawn(serve);
                    }
                    Err(_) => thread::sleep(Duration::from_millis(50)),
                }
            }
        };
        thread::Builder::new().name("metrics".into()).spawn(run)?;
        Ok(exporter)
    }
}

/// Reads a request and answers it.
fn answer(stream: &mut dyn Stream, body: impl FnOnce() -> Vec<u8>) -> io::Result<()> {
    let end = Instant::now() + READ;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && !head.windows(2).any(|w| w == b"\n\n") {
        if head.len() > HEAD {
            return reply(stream, "431 Request Header Fields Too Large", b"the request is too long\n", true);
        }
        let left = end.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()).ok_or_else(late)?;
        stream.limit(left, WRITE)?;
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    let line = String::from_utf8_lossy(head.split(|b| *b == b'\n').next().unwrap_or_default());
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [method @ ("GET" | "HEAD"), target, version] if version.starts_with("HTTP/1.") => {
            match target.split('?').next() {
                Some("/metrics" | "/") => reply(stream, "200 OK", &body(), method == "GET"),
                _ => reply(stream, "404 Not Found", b"metrics are at /metrics\n", method == "GET"),
            }
        }
        [_, _, version] if version.starts_with("HTTP/1.") => {
            reply(stream, "405 Method Not Allowed", b"only GET and HEAD\n", true)
        }
        _ => reply(stream, "400 Bad Request", b"not an HTTP/1.1 request\n", true),
    }
}

fn reply(stream: &mut dyn Stream, status: &str, body: &[u8], with_body: bool) -> io::Result<()> {
    let kind = if status.starts_with("200") { prometheus::TEXT_FORMAT } else { "text/plain; charset=utf-8" };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    let mut out = head.into_bytes();
    if with_body {
        out.extend_from_slice(body);
    }
    let end = Instant::now() + WRITE;
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let left = end.checked_duration_since(Instant::now()).filter(|l| !l.is_zero());
        stream.limit(READ, left.ok_or(io::ErrorKind::TimedOut)?)?;
        match stream.write(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => rest = &rest[n..],
        }
    }
    stream.flush()
}

/// The socket of an address, for messages.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "http://{address}/metrics"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn only_this_machine_is_served() {
        for ok in ["127.0.0.1:9000", "127.3.2.1:0", "[::1]:9000", "unix:/run/qmk/metrics.sock"] {
            assert!(ok.parse::<Address>().is_ok(), "{ok}");
        }
        for bad in ["0.0.0.0:9000", "[::]:9000", "10.0.0.1:9000", "[::ffff:10.0.0.1]:9000"] {
            let why = bad.parse::<Address>().unwrap_err();
            assert!(why.contains("other machines"), "{bad}: {why}");
        }
        for bad in ["unix:", "localhost:9000", "9000", "127.0.0.1", ""] {
            assert!(bad.parse::<Address>().unwrap_err().contains("expected"), "{bad}");
        }
    }
}
