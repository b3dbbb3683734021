//! Attacks on the overlay that a zone's root is: its marks, its layers, its copies.

use crate::tries::{tried, until_refused, word};
use probe::Line;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// struct vfs_cap_data, version 2: every capability, effective.
const CAPABILITY: [u8; 20] =
    [1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0];
const MIB: usize = 1 << 20;
/// More than any zone's files may take.
const FILLER_MIB: usize = 64 * 1024;
/// A program of every image that nobody runs then, to be copied up where there is no room.
const LOWER: &str = "/bin/cat";

pub fn overlay(line: &mut Line) {
    if let Err(error) = marks(line) {
        line.saw("create", word(&error));
    }
    // The layers themselves are nowhere in the zone.
    for (name, path) in [("upper", "/upper"), ("work", "/work/work")] {
        tried(line, name, fs::metadata(path));
    }
    tried(line, "rename-lower", fs::rename("/usr", "/usr-moved"));
    copies(line);
    no_room(line);
}

/// By its marks an overlay is told where files are: those of the node's overlays take a privilege of the
/// node's, those of users' own mean nothing to it.
fn marks(line: &mut Line) -> io::Result<()> {
    let file = File::create("/root/marked")?;
    let folder = Path::new("/root/led");
    fs::create_dir_all(folder)?;
    let directory = File::open(folder)?;
    let opaque = sys::xattr::set(file.as_fd(), c"trusted.overlay.opaque", b"y");
    tried(line, "trusted.overlay", opaque);
    let redirect = sys::xattr::set(file.as_fd(), c"trusted.overlay.redirect", b"/etc/passwd");
    tried(line, "trusted.redirect", redirect);
    let metacopy = sys::xattr::set(file.as_fd(), c"trusted.overlay.metacopy", b"");
    tried(line, "trusted.metacopy", metacopy);
    let directory_s = sys::xattr::set(directory.as_fd(), c"trusted.overlay.redirect", b"/etc");
    tried(line, "trusted.directory", directory_s);
    let capability = sys::xattr::set(file.as_fd(), c"security.capability", &CAPABILITY);
    tried(line, "security.capability", capability);
    tried(
        line,
        "user.overlay",
        sys::xattr::set(directory.as_fd(), c"user.overlay.redirect", b"/etc"),
    );
    let moved = fs::rename(folder, "/root/led-away");
    line.saw("led", fs::read_dir("/root/led-away").map_or(usize::MAX, Iterator::count));
    tried(line, "redirect", fs::rename("/usr/bin", "/root/bin-moved"));
    tried(line, "rename-own", moved);
    Ok(())
}

/// What is written to a file of the image is the zone's own.
fn copies(line: &mut Line) {
    let before = fs::read("/etc/passwd");
    let wrote = fs::write("/etc/passwd", "changed").and_then(|()| fs::read("/etc/passwd"));
    line.saw("copy-up", wrote.map_or_else(|error| word(&error), |text| text.len().to_string()));
    let restored = before.and_then(|text| fs::write("/etc/passwd", text));
    line.saw("restore", restored.map_or_else(|error| word(&error), |()| "done".to_owned()));
}

/// A copy that there is no room for, however large the file, is none; the file stays what it was.
fn no_room(line: &mut Line) {
    let before = fs::read(LOWER);
    let block = vec![7u8; MIB];
    match File::create("/root/filler") {
        Ok(mut filler) => {
            let (end, _) = until_refused(FILLER_MIB, || filler.write_all(&block));
            line.saw("fill", end);
        }
        Err(error) => line.saw("fill", word(&error)),
    }
    tried(line, "copy-up-whole", File::options().append(true).open(LOWER));
    let whole = match (before, fs::read(LOWER)) {
        (Ok(before), Ok(after)) => if before == after { "whole" } else { "changed" }.to_owned(),
        (Err(error), _) | (_, Err(error)) => word(&error),
    };
    line.saw("lower", whole);
    tried(line, "emptied", fs::remove_file("/root/filler"));
}
