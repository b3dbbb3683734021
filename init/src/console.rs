//! What init says, and where: the console, the kernel's log, and its own ring.
//!
//! Saying never waits and never fails: a console that takes no more (a serial line that nobody reads)
//! loses lines, and says later how many.

use crate::logs::Ring;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use sys::clock;

/// The most bytes that wait for a slow console.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// The longest wait for the console's last words before the machine ends.
const DRAIN_MS: u64 = 1_000;
/// The priority of our lines in the kernel's log: the least, for then the kernel does not print them on
/// the console, where they stand already.
const PRIORITY: &str = "<7>";

/// Where init's lines go.
#[derive(Debug)]
pub struct Console {
    terminal: Option<File>,
    kernel: Option<File>,
    waiting: VecDeque<u8>,
    lost: u64,
    /// Init's own lines, for the control socket.
    pub ring: Ring,
}

impl Console {
    /// Opens what can be opened; what can't is done without.
    #[must_use]
    pub fn open() -> Self {
        let open = |path: &str| sys::file::open_to_write(Path::new(path)).ok();
        Self {
            terminal: open("/dev/console"),
            kernel: open("/dev/kmsg"),
            waiting: VecDeque::new(),
            lost: 0,
            ring: Ring::default(),
        }
    }

    /// Says one line of the node's: `mobula: …`.
    pub fn say(&mut self, text: &str) {
        self.ring.push(clock::since_boot_ms(), text.to_owned());
        self.print(&format!("mobula: {text}"));
    }

    /// Prints a line as it is.
    pub fn print(&mut self, line: &str) {
        if let Some(kernel) = &mut self.kernel {
            // The kernel's log may refuse a line; the console and the ring have it.
            let written = kernel.write(format!("{PRIORITY}{line}").as_bytes());
            drop(written);
        }
        if self.waiting.len() + line.len() + 1 > WAITING_BYTES_MAX {
            self.lost += 1;
            return;
        }
        if self.lost > 0 && self.waiting.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            self.waiting.extend(format!("mobula: the console lost {lost} lines\n").into_bytes());
        }
        self.waiting.extend(line.bytes());
        self.waiting.push_back(b'\n');
        self.flush();
    }

    /// Writes as much as the terminal takes now.
    pub fn flush(&mut self) {
        let Some(terminal) = &mut self.terminal else {
            self.waiting.clear();
            return;
        };
        while !self.waiting.is_empty() {
            match terminal.write(self.waiting.as_slices().0) {
                Ok(0) => return,
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // A terminal that fails is one that nobody sees.
                Err(_) => {
                    self.waiting.clear();
                    return;
                }
            }
        }
    }

    /// The terminal, while something waits for it.
    #[must_use]
    pub fn blocked(&self) -> Option<&File> {
        if self.waiting.is_empty() { None } else { self.terminal.as_ref() }
    }

    /// Waits, for a while, until everything is out.
    pub fn drain(&mut self) {
        let deadline_ms = clock::since_boot_ms() + DRAIN_MS;
        while let Some(terminal) = self.blocked() {
            let left_ms = deadline_ms.saturating_sub(clock::since_boot_ms());
            let fd = std::os::fd::AsFd::as_fd(terminal);
            if left_ms == 0
                || sys::wait::wait(&[(fd, sys::wait::For::Output)], Some(left_ms)).is_err()
            {
                return;
            }
            self.flush();
        }
    }
}
