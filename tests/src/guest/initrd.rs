//! The guest's root: programs with their libraries, modules, the scenario. Built twice, it is the same to the last bit.

use super::cpio::{Entry, archive};
use super::environment::{library_path, loader};
use super::process::{command, output};
use super::{Environment, GuestError};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time to list a program's libraries.
const LIST_LIMIT: Duration = Duration::from_secs(120);

/// How a guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An orderly power-off, in which drivers shut their devices down.
    PowerOff,
    /// At once, by sysrq.
    Reset,
}

/// An initrd being filled.
#[derive(Debug)]
pub struct Initrd<'a> {
    environment: &'a Environment,
    entries: BTreeMap<String, Entry>,
    modules: Vec<(String, Vec<u8>)>,
    options: BTreeMap<String, String>,
    /// Lines of modules.dep.
    loadable: BTreeMap<String, String>,
}

impl<'a> Initrd<'a> {
    /// A root with busybox, that runs the shell script `scenario` and takes its exit status for the guest's.
    ///
    /// # Errors
    /// When a package lacks what is needed.
    pub fn new(environment: &'a Environment, scenario: &str) -> Result<Self, GuestError> {
        let mut new = Self {
            environment,
            entries: BTreeMap::new(),
            modules: Vec::new(),
            options: BTreeMap::new(),
            loadable: BTreeMap::new(),
        };
        for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            new.entries.insert(link.to_owned(), Entry::Link(target.to_owned()));
        }
        // Made by mounting and so on: what the archive must have is what /init needs before that.
        for folder in ["usr/bin", "usr/sbin", "usr/lib64", "proc", "sys", "dev", "tmp", "etc", "var"] {
            new.entries.insert(folder.to_owned(), Entry::Folder);
        }
        let busybox = ["usr/bin/busybox", "bin/busybox"].map(|path| environment.judges().join(path));
        let busybox = busybox.iter().find(|path| path.is_file());
        let busybox = busybox.ok_or_else(|| GuestError::Content("busybox-static has no busybox".to_owned()))?;
        new.local_file(busybox, "usr/bin/busybox")?;
        new.file("init", 0o755, include_str!("init.sh"));
        new.file("scenario", 0o755, scenario);
        new.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n");
        new.file("etc/group", 0o644, "root:x:0:\n");
        new.file("etc/hosts", 0o644, "127.0.0.1 localhost\n");
        new.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files\n");
        Ok(new)
    }

    /// A file with this content, at a path without a leading slash.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> &mut Self {
        self.entries.insert(path.to_owned(), Entry::File(mode, content.into()));
        self
    }

    /// A file of this machine, such as a static program just built.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn local_file(&mut self, from: &Path, path: &str) -> Result<&mut Self, GuestError> {
        let content = fs::read(from).map_err(GuestError::file("read", from))?;
        let meta = fs::metadata(from).map_err(GuestError::file("read", from))?;
        Ok(self.file(path, meta.permissions().mode() & 0o777 | 0o444, content))
    }

    /// A file of the judges' packages, under its own path without a leading slash; libraries are not looked for.
    ///
    /// # Errors
    /// When no package has it.
    pub fn packaged(&mut self, path: &str) -> Result<&mut Self, GuestError> {
        self.local_file(&self.environment.judges().join(path), path)
    }

    /// All files of a folder of the judges' packages.
    ///
    /// # Errors
    /// When no package has it.
    pub fn packaged_folder(&mut self, path: &str) -> Result<&mut Self, GuestError> {
        let folder = self.environment.judges().join(path);
        let entries = fs::read_dir(&folder).map_err(GuestError::file("read the folder", &folder))?;
        for entry in entries {
            let entry = entry.map_err(GuestError::file("read the folder", &folder))?;
            let Some(name) = entry.file_name().to_str().map(|name| format!("{path}/{name}")) else { continue };
            if entry.path().is_dir() {
                self.packaged_folder(&name)?;
            } else {
                self.packaged(&name)?;
            }
        }
        Ok(self)
    }

    /// A program or library of the judges' packages, with the libraries that it needs. What it opens by name at run time
    /// has to be added by itself.
    ///
    /// # Errors
    /// When no package has it or one of its libraries.
    pub fn program(&mut self, path: &str) -> Result<&mut Self, GuestError> {
        self.program_of(self.environment.judges(), path)
    }

    /// As [`Initrd::program`], of the packages unpacked in `root`.
    ///
    /// # Errors
    /// When no package has it or one of its libraries.
    pub fn program_of(&mut self, root: &Path, path: &str) -> Result<&mut Self, GuestError> {
        let mut list = command(loader(root));
        list.args(["--inhibit-cache", "--library-path"]).arg(library_path(root)).arg("--list").arg(root.join(path));
        let listed = String::from_utf8_lossy(&output(list, LIST_LIMIT)?).into_owned();
        self.local_file(&root.join(path), path)?;
        // A line is: name => path (address), or: name (address) for what the kernel gives.
        for line in listed.lines() {
            let Some((name, found)) = line.trim().split_once(" => ") else { continue };
            let found = PathBuf::from(found.split(" (").next().unwrap_or_default());
            let Ok(inside) = found.strip_prefix(root) else {
                return Err(GuestError::Content(format!("{path} needs {name}, which no package has")));
            };
            let inside = inside.to_string_lossy().into_owned();
            self.local_file(&root.join(&inside), &inside)?;
        }
        let interpreter = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
        self.local_file(&root.join(interpreter), interpreter)?;
        let target = format!("/{interpreter}");
        self.entries.insert("usr/lib64/ld-linux-x86-64.so.2".to_owned(), Entry::Link(target));
        Ok(self)
    }

    /// A module that is loaded before the scenario runs, with its options, after those that it depends on.
    ///
    /// # Errors
    /// When the kernel has no such module.
    pub fn module(&mut self, name: &str, options: &str) -> Result<&mut Self, GuestError> {
        self.environment.image().add_module(name, &mut self.modules)?;
        self.options.insert(name.replace('-', "_"), options.to_owned());
        Ok(self)
    }

    /// A module that `modprobe` finds, with those that it depends on.
    ///
    /// # Errors
    /// When the kernel has no such module.
    pub fn loadable_module(&mut self, name: &str) -> Result<&mut Self, GuestError> {
        let image = self.environment.image();
        let mut order = Vec::new();
        image.add_module(name, &mut order)?;
        let mut before: Vec<String> = Vec::new();
        for (name, content) in order {
            let missing = || GuestError::Content(format!("kernel {} has no module {name}", image.release()));
            let file = image.module_place(&name).ok_or_else(missing)?;
            // Those before it are loaded from the last to the first. One too many does no harm.
            let needs: Vec<&str> = before.iter().rev().map(String::as_str).collect();
            let line = format!("{file}: {}\n", needs.join(" "));
            self.file(&format!("{}/{file}", self.modules_folder()), 0o644, content);
            self.loadable.insert(file.clone(), line);
            before.push(file);
        }
        Ok(self)
    }

    fn modules_folder(&self) -> String {
        format!("usr/lib/modules/{}", self.environment.image().release())
    }

    /// The archive.
    pub fn build(mut self, end: End) -> Vec<u8> {
        let mut order = String::new();
        for (name, content) in std::mem::take(&mut self.modules) {
            let options = self.options.get(&name).map_or("", String::as_str);
            order += &format!("{name} {options}\n");
            self.entries.insert(format!("modules/{name}.ko"), Entry::File(0o644, content));
        }
        self.file("modules/order", 0o644, order);
        if !self.loadable.is_empty() {
            let lines: String = self.loadable.values().map(String::as_str).collect();
            self.file(&format!("{}/modules.dep", self.modules_folder()), 0o644, lines);
        }
        self.file("end", 0o644, if end == End::Reset { "reset" } else { "poweroff" });
        archive(&self.entries)
    }
}
