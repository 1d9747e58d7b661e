//! The guest itself: QEMU with emulated adapters plugged in, its console, its exit status.

use super::lines::Lines;
use super::process::Kept;
use super::{Environment, GuestError, Run};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Longest time from the exit status to the end of QEMU.
const END_LIMIT: Duration = Duration::from_secs(300);

/// What translates the adapters' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iommu {
    /// Nothing.
    None,
    /// An Intel IOMMU that translates; what stock vfio-pci needs.
    Translating,
}

/// How the guest is made.
#[derive(Debug, Clone)]
pub struct GuestOptions {
    /// Its name, where a run has several guests: their logs begin with it.
    pub name: String,
    /// Sockets of the adapters, one PCIe root port for each.
    pub adapters: Vec<PathBuf>,
    /// Memory in MiB.
    pub memory: u32,
    /// The IOMMU.
    pub iommu: Iommu,
    /// Further words on the kernel's command line.
    pub kernel_arguments: String,
    /// Further arguments of QEMU. Adapter N is device `adapterN` behind root port `portN`.
    pub qemu_arguments: Vec<String>,
}

impl Default for GuestOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            adapters: Vec::new(),
            memory: 1024,
            iommu: Iommu::None,
            kernel_arguments: String::new(),
            qemu_arguments: Vec::new(),
        }
    }
}

/// A running guest. Dropping it ends it.
#[derive(Debug)]
pub struct Guest {
    process: Kept,
    log: Lines,
    talk: UnixStream,
    /// Lines that were waited for already.
    seen: usize,
}

impl Guest {
    /// Boots the environment's kernel with `initrd`. The console goes to `console.log` among the run's logs, with the
    /// guest's name before it.
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn start(
        run: &Run,
        environment: &Environment,
        initrd: &[u8],
        options: &GuestOptions,
    ) -> Result<Self, GuestError> {
        let initrd_path = run.logs().join(format!("{}initrd", options.name));
        fs::write(&initrd_path, initrd).map_err(GuestError::file("write", &initrd_path))?;
        let (talk, theirs) = UnixStream::pair().map_err(GuestError::file("make a socket for", run.logs()))?;
        let listen = talk.try_clone().map_err(GuestError::file("make a socket for", run.logs()))?;
        let log = Lines::new(run.logs().join(format!("{}console.log", options.name)))?;
        let mut qemu = environment.host_program("usr/bin/qemu-system-x86_64");
        // ttyS0: the kernel, to stdout; ttyS1: the scenario, on the socket that is stdin.
        let serials = ["file,id=kernel,path=/dev/stdout", "socket,id=scenario,fd=0"];
        qemu.args(arguments(environment, &initrd_path, options, serials));
        qemu.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Kept::new(qemu.spawn().map_err(|error| GuestError::Unavailable(error.to_string()))?);
        // The command keeps the other end of the socket: without this the console would never end.
        drop(qemu);
        if let Some(stdout) = process.child().stdout.take() {
            log.follow(stdout);
        }
        if let Some(stderr) = process.child().stderr.take() {
            log.follow(stderr);
        }
        log.follow(listen);
        Ok(Self { process, log, talk, seen: 0 })
    }

    /// Waits for a line with `marker`, after those already waited for, and gives it.
    ///
    /// # Errors
    /// When it doesn't come within `limit`, or the guest ends or its scenario exits without it.
    pub fn wait_for(&mut self, marker: &str, limit: Duration) -> Result<String, GuestError> {
        let found = |line: &str| line.contains(marker) || line.starts_with("opx-exit: ");
        let (at, line) = self.log.wait(self.seen, &format!("the line {marker:?}"), limit, found)?;
        if !line.contains(marker) {
            let (what, log) = (format!("the line {marker:?}"), self.log.path().to_owned());
            return Err(GuestError::Ended { what, log, last: self.log.last() });
        }
        self.seen = at + 1;
        Ok(line)
    }

    /// Waits until so many lines have had `marker`, whether or not they were waited for already.
    ///
    /// # Errors
    /// As those of [`Guest::wait_for`].
    pub fn wait_for_count(&self, marker: &str, count: usize, limit: Duration) -> Result<(), GuestError> {
        let (mut found, what) = (0, format!("{count} lines {marker:?}"));
        let (_, line) = self.log.wait(0, &what, limit, |line| {
            found += usize::from(line.contains(marker));
            found >= count || line.starts_with("opx-exit: ")
        })?;
        if line.contains(marker) {
            return Ok(());
        }
        Err(GuestError::Ended { what, log: self.log.path().to_owned(), last: self.log.last() })
    }

    /// Sends a line to the scenario's standard input.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn send(&mut self, line: &str) -> Result<(), GuestError> {
        writeln!(self.talk, "{line}").map_err(GuestError::file("write to the guest of", self.log.path()))
    }

    /// All that kernel and scenario said up to now.
    pub fn lines(&self) -> Vec<String> {
        self.log.all()
    }

    /// Kernel messages of level warning and worse, without the level; complete once the scenario has ended.
    pub fn kernel_warnings(&self) -> Vec<String> {
        let lines = self.log.all();
        let lines = lines.iter().filter_map(|line| line.strip_prefix("opx-kernel: <")?.split_once('>'));
        lines.map(|(_, text)| text.to_owned()).collect()
    }

    /// The console's file.
    pub fn console(&self) -> &Path {
        self.log.path()
    }

    /// Waits for the end of the scenario and of QEMU, and gives the scenario's exit status.
    ///
    /// # Errors
    /// When either doesn't come in time, or QEMU fails.
    pub fn finish(&mut self, limit: Duration) -> Result<i32, GuestError> {
        let (_, line) = self.log.wait(0, "the end of the scenario", limit, |line| line.starts_with("opx-exit: "))?;
        let status = line.trim_start_matches("opx-exit: ").trim().parse();
        let status = status.map_err(|_| GuestError::Content(format!("the exit status makes no sense: {line:?}")))?;
        let Some(ended) = self.process.wait(END_LIMIT) else {
            let (what, log, last) = ("the end of QEMU".to_owned(), self.log.path().to_owned(), self.log.last());
            return Err(GuestError::Timeout { what, limit: END_LIMIT, log, last });
        };
        if !ended.success() {
            return Err(GuestError::Program {
                program: "QEMU".to_owned(),
                why: format!("{ended}\n{}", self.log.last()),
            });
        }
        Ok(status)
    }
}

/// Boots the environment's kernel with `initrd` on this process' own terminal, and returns when the guest has ended. The
/// kernel's messages go to `console.log` among the run's logs.
///
/// # Errors
/// When QEMU can't be started or fails.
pub fn attach(run: &Run, environment: &Environment, initrd: &[u8], options: &GuestOptions) -> Result<(), GuestError> {
    let initrd_path = run.logs().join("initrd");
    fs::write(&initrd_path, initrd).map_err(GuestError::file("write", &initrd_path))?;
    let kernel = format!("file,id=kernel,path={}", run.logs().join("console.log").display());
    let mut qemu = environment.host_program("usr/bin/qemu-system-x86_64");
    // Keys such as Ctrl-C are the guest's.
    qemu.args(arguments(environment, &initrd_path, options, [&kernel, "stdio,id=scenario,signal=off"]));
    let mut process = Kept::new(qemu.spawn().map_err(|error| GuestError::Unavailable(error.to_string()))?);
    let ended = process.child().wait().map_err(GuestError::file("wait for", run.logs()))?;
    if ended.success() {
        return Ok(());
    }
    Err(GuestError::Program { program: "QEMU".to_owned(), why: ended.to_string() })
}

/// QEMU's arguments. Software emulation throughout: results don't depend on the machine having KVM.
fn arguments(environment: &Environment, initrd: &Path, options: &GuestOptions, serials: [&str; 2]) -> Vec<String> {
    let data = environment.shared_data();
    let mut all = Vec::new();
    let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
    for folder in ["qemu", "seabios"] {
        add(&["-L", &data.join(folder).to_string_lossy()]);
    }
    let memory = format!("memory-backend-memfd,id=memory,size={}M,share=on", options.memory);
    add(&["-machine", "q35,accel=tcg,kernel-irqchip=split,memory-backend=memory", "-object", &memory]);
    // Two processors: one has too few vectors for 256 MSI-X interrupts.
    add(&["-cpu", "max", "-smp", "2", "-m", &options.memory.to_string()]);
    add(&["-display", "none", "-nodefaults", "-no-reboot"]);
    // A log that holds all that a scenario can bring about: none of it is judged unread.
    let mut kernel = "console=ttyS0 panic=-1 nokaslr mitigations=off rodata=off tsc=reliable no_timer_check \
                      lsm=capability log_buf_len=4M "
        .to_owned();
    // A busy machine may not run QEMU for a while. What the kernel takes for a lockup is only that for ten times as long.
    kernel += "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=210 sysctl.kernel.hung_task_timeout_secs=600 ";
    kernel += if std::env::var_os("OPX_GUEST_VERBOSE").is_some() { "loglevel=8 " } else { "quiet " };
    if options.iommu == Iommu::Translating {
        // QEMU refuses to assign a device behind an IOMMU without caching mode.
        add(&["-device", "intel-iommu,intremap=on,caching-mode=on"]);
        kernel += "intel_iommu=on iommu.strict=1 ";
    }
    kernel += &options.kernel_arguments;
    for (serial, name) in serials.into_iter().zip(["kernel", "scenario"]) {
        add(&["-chardev", serial, "-serial", &format!("chardev:{name}")]);
    }
    for (n, socket) in options.adapters.iter().enumerate() {
        let slot = n + 1;
        add(&["-device", &format!("pcie-root-port,id=port{n},chassis={slot},slot={slot},bus=pcie.0")]);
        let device = serde_json::json!({
            "driver": "vfio-user-pci",
            "id": format!("adapter{n}"),
            "bus": format!("port{n}"),
            "socket": { "type": "unix", "path": socket.to_string_lossy() },
        });
        add(&["-device", &device.to_string()]);
    }
    add(&["-kernel", &environment.image().vmlinux().to_string_lossy()]);
    add(&["-initrd", &initrd.to_string_lossy(), "-append", &kernel]);
    all.extend(options.qemu_arguments.iter().cloned());
    all
}
