//! Images made to do harm, brought in by the command that people use: none is taken that leads out of itself,
//! and what is taken does nothing in the zones that run in it.

use super::booted::{BUCKET, Booted};
use super::held;
use super::zones::{delete, mobula, within};
use crate::jobs::{JOB_TIME, map, name};
use anyhow::{Context, Result, ensure};
use erofs::{Device, Meta, Stream};
use sha2::{Digest, Sha256};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::appliance::Appliance;
use tests::tarball::{
    BLOCK_DEVICE, CHARACTER, EXTENDED, FILE, FOLDER, HARD_LINK, SYMLINK, Tarball, packed,
};

/// The zone that runs in an image.
const ZONE: &str = "of-a-hostile-image";
/// Links whose targets are, together, more than the names of an image may be (zoned's limits of imports).
const LINKS: usize = 17_000;
const TARGET_BYTES: usize = 4_000;
/// What deflate and zstd make of zeros is refused beyond 1:200 once there is a GiB of it.
const BOMB_BYTES: usize = (1 << 30) + (64 << 20);
/// A file of holes, larger than anything that a zone may write: copied up, it may take its holes along.
const HUGE_BYTES: u64 = 10 << 30;
/// A file of bytes, larger than the zone's room.
const LARGE_BYTES: usize = 24 << 20;
/// struct vfs_cap_data, version 2: every capability, effective.
const CAPABILITIES: [u8; 20] =
    [1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0];

/// What a shell takes to run: programs, and the libraries that they are linked with.
fn programs() -> Result<Vec<PathBuf>> {
    let script = "for p in /bin/bash /bin/cat /bin/ls; do echo $p; ldd $p | grep -o '/lib[^ ]*'; done | sort -u";
    let listed = Command::new("bash").args(["-c", script]).output()?;
    ensure!(listed.status.success(), "no programs to make an image of");
    Ok(String::from_utf8(listed.stdout)?.lines().map(PathBuf::from).collect())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Packs layers as `docker save` does.
fn saved(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|l| format!("\"sha256:{}\"", sha256(l))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}},"config":{{}}}}"#,
        ids.join(",")
    );
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let listed: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let manifest = format!(r#"[{{"Config":"config.json","Layers":[{}]}}]"#, listed.join(","));
    let outer = Tarball::default().entry(FILE, "manifest.json", "", manifest.as_bytes()).entry(
        FILE,
        "config.json",
        "",
        config.as_bytes(),
    );
    let add =
        |outer: Tarball, (name, layer): (&String, &Vec<u8>)| outer.entry(FILE, name, "", layer);
    names.iter().zip(layers).fold(outer, add).done()
}

fn import(a: &Appliance, image: &str, archive: &[u8]) -> Result<(i32, String)> {
    a.s3.put(BUCKET, image, archive)?;
    mobula(a, &["image", "import", image, &name(BUCKET, image)], b"")
}

/// An image that was taken. It and the zone in it go with this, whatever comes of a story: what is left mounted
/// would be laid to the stories after it.
struct Taken<'a> {
    a: &'a Appliance,
    image: &'static str,
    there: bool,
}

impl<'a> Taken<'a> {
    fn import(a: &'a Appliance, image: &'static str, archive: &[u8]) -> Result<Self> {
        let (code, text) = import(a, image, archive)?;
        ensure!(code == 0, "{image}: {code}: {text}");
        Ok(Self { a, image, there: true })
    }

    fn remove(mut self) -> Result<()> {
        self.there = false;
        self.take_away()
    }

    /// It may be in use until its job's last zone, which waits for more, is gone.
    fn take_away(&self) -> Result<()> {
        tests::agent::wait_for("the image to be removed", super::booted::QUIET_TIME, || {
            Ok((mobula(self.a, &["image", "rm", self.image], b"")?.0 == 0).then_some(()))
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.there {
            return;
        }
        // The story may have failed before there was a zone, or after it was deleted.
        drop(mobula(self.a, &["zone", "delete", ZONE], b""));
        if let Err(error) = self.take_away() {
            println!("  the image {} stays: {error:#}", self.image);
        }
    }
}

/// Archives that are refused, each with a word of the reason.
fn archives() -> Result<Vec<(&'static str, Vec<u8>, &'static str)>> {
    let one = |kind, name: &str, link: &str| {
        saved(&[Tarball::default().entry(kind, name, link, b"").done()])
    };
    let pax = Tarball::default().sized(EXTENDED, "pax", "", 8 << 20, b"").done();
    // Where a zone has its own /dev nothing of it would be kept: it is not even written.
    let bomb = Tarball::default().entry(FILE, "dev/zeros", "", &vec![0; BOMB_BYTES]).done();
    Ok(vec![
        ("leads-up", one(FILE, "../../etc/cron.d/planted", ""), "leads up"),
        ("leads-up-in-the-middle", one(FILE, "a/../../planted", ""), "leads up"),
        ("hard-link-out", one(HARD_LINK, "shadow", "../../etc/shadow"), "outside"),
        ("hard-link-to-the-node", one(HARD_LINK, "shadow", "/etc/shadow"), "not there"),
        ("whiteout-up", one(FILE, "a/.wh...", ""), "whiteout"),
        ("huge-header", saved(&[pax]), "extended header"),
        ("links-in-a-circle", saved(&[circle()]), "too many links"),
        ("names-without-end", packed(&long_links())?, "bytes of names"),
        ("bomb", packed(&bomb)?, "more than the"),
    ])
}

/// Links with targets as long as paths may be.
fn long_links() -> Vec<u8> {
    let record = format!(" linkpath={}\n", "l".repeat(TARGET_BYTES));
    // The length counts its own four digits.
    let record = format!("{}{record}", record.len() + 4);
    let add = |all: Tarball, number| {
        let extended = all.entry(EXTENDED, "pax", "", record.as_bytes());
        extended.entry(SYMLINK, &format!("{number}"), "", b"")
    };
    (0..LINKS).fold(Tarball::default(), add).done()
}

fn circle() -> Vec<u8> {
    let links = Tarball::default().entry(SYMLINK, "a", "b", b"").entry(SYMLINK, "b", "a", b"");
    links.entry(FILE, "a/x", "", b"").done()
}

/// Archives that lead out, or never end, are refused by name and leave nothing.
pub fn refused(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let mut said = Vec::new();
    for (image, archive, why) in archives()? {
        let (code, text) = import(a, image, &archive)?;
        ensure!(code != 0 && text.contains(why), "{image}: {code}: {text}");
        said.push(format!("{image}: {}", text.trim()));
        a.s3.delete(BUCKET, image)?;
    }
    said.iter().for_each(|line| println!("  {line}"));
    let images = mobula(a, &["--json", "image", "list"], b"")?.1;
    let left = a.agent.list("/data/images/.imported", false).unwrap_or_default();
    ensure!(left.is_empty(), "{left:?} are left: {images}");
    held(39, &format!("{} hostile archives were refused by name", said.len()));
    Ok(())
}

/// The layer over the programs: all that can stand in the way of what a zone is given, and lead elsewhere.
fn in_the_way() -> Vec<u8> {
    Tarball::default()
        .entry(SYMLINK, "dev", "/etc", b"")
        .entry(FILE, "proc", "", b"no directory")
        .entry(FILE, "sys", "", b"no directory")
        .entry(SYMLINK, "tmp", "usr", b"")
        .entry(SYMLINK, "root", "/etc", b"")
        .entry(SYMLINK, "manta", "../../data", b"")
        .entry(FILE, "out", "", b"no directory")
        .entry(SYMLINK, "assets", "/etc", b"")
        .entry(CHARACTER, "zero", "", b"")
        .entry(BLOCK_DEVICE, "disk", "", b"")
        // First a link that leads up, then a file through it: it stays in the image.
        .entry(SYMLINK, "away", "../../../etc", b"")
        .entry(FILE, "away/planted", "", b"planted")
        .entry(FILE, "//absolute", "", b"inside")
        .entry(FILE, "twice", "", b"first")
        .entry(SYMLINK, "twice", "/etc/passwd", b"")
        .entry(FILE, "twice", "", b"last")
        .done()
}

/// What must be so in a zone of that image.
const LOOK: &str = "set -e; echo mine >/tmp/x; echo mine >/root/x; [ -d /proc/self/fd ]; [ ! -d /sys/kernel ]; \
    echo >/dev/null; [ -c /dev/null ]; [ ! -e /etc/null ]; [ ! -e /etc/x ]; [ ! -e /usr/x ]; \
    [ ! -c /zero ]; [ ! -b /disk ]; [ $(cat /etc/planted) = planted ]; [ $(cat /absolute) = inside ]; \
    [ $(cat /twice) = last ]; [ -d /manta ] || [ ! -e /manta ]; echo sound";

/// An archive with everything in the way of a zone's own directories: task and standing zone are whole in it.
pub fn masks(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let mut base = Tarball::default();
    for path in programs()? {
        let content = std::fs::read(&path)?;
        base = base.entry(FILE, path.to_str().context("a path")?, "", &content);
    }
    let base = base.entry(FOLDER, "etc/", "", b"").entry(FOLDER, "usr/", "", b"").done();
    let masks = Taken::import(a, "masks", &saved(&[base, in_the_way()]))?;
    let create = ["zone", "create", "--image", "masks", "--memory", "64M", ZONE];
    let (made, why) = mobula(a, &create, b"")?;
    let looked = within(a, ZONE, LOOK);
    delete(a, ZONE)?;
    ensure!(made == 0, "{why}");
    let (code, text) = looked?;
    ensure!(code == 0 && text.ends_with("sound\n"), "standing zone: {code}: {text}");
    let mut spec = map(&format!("{LOOK}; cat >/dev/null"));
    spec.phases[0].image = Some("masks".to_owned());
    let job = a.jobs.submit(&spec, &[name(BUCKET, "object")])?;
    let status = a.jobs.wait(job, JOB_TIME)?;
    ensure!(status.stats.outputs == 1, "task: {status:?}: {:?}", a.jobs.errors(job)?);
    nothing_planted(a)?;
    masks.remove()?;
    as_they_are(a)?;
    held(
        37,
        "directories of zones as links and files: left out of archives, refused in EROFS images, /dev covered",
    );
    Ok(())
}

fn nothing_planted(a: &Appliance) -> Result<()> {
    for path in ["/etc/planted", "/etc/x", "/etc/null", "/usr/x", "/absolute"] {
        ensure!(a.agent.read(path).is_err(), "{path} is on the node");
    }
    Ok(())
}

/// EROFS images are taken as they are; one in which a zone's directory is a link starts no zone. But /dev is a layer
/// above the image: what that has there is not seen.
fn as_they_are(a: &Appliance) -> Result<()> {
    for place in ["dev", "proc", "tmp"] {
        let mut image = Stream::begin(Cursor::new(Vec::new()), &Meta::of_mode(0o755))?;
        let mut names = vec![("dev", place == "dev"), ("etc", false), ("proc", place == "proc")];
        names.push(("tmp", place == "tmp"));
        for (name, link) in names {
            if link {
                image.symlink(name.as_bytes(), &Meta::of_mode(0o777), 1, b"/etc")?;
            } else {
                image.enter(name.as_bytes(), &Meta::of_mode(0o755))?;
                image.leave()?;
            }
        }
        let (bytes, _) = image.finish()?;
        let linked = Taken::import(a, "linked", bytes.get_ref()).context(place)?;
        let (code, text) = mobula(a, &["zone", "create", "--image", "linked", ZONE], b"")?;
        let why = mobula(a, &["zone", "why", ZONE], b"")?.1;
        delete(a, ZONE)?;
        let runs = code == 0;
        ensure!(runs == (place == "dev"), "runs: {runs}, with a link for its /{place}: {text}");
        println!("  /{place} as a link: {}", why.lines().next().unwrap_or_default());
        nothing_planted(a)?;
        linked.remove()?;
    }
    Ok(())
}

/// Marks of overlays, device nodes, privileged programs and a file that no zone has room for, in an image that is
/// taken as it is.
pub fn marked(b: &Booted) -> Result<()> {
    let a = &b.appliance;
    let marked = Taken::import(a, "marked", &marked_image()?)?;
    let create =
        ["zone", "create", "--image", "marked", "--memory", "64M", "--scratch", "16M", ZONE];
    let (made, why) = mobula(a, &create, b"")?;
    // A copy stops where the zone's room does; the file below is what it was.
    let line = "ls /led; echo led; cat /meta; cat /zero; cat /disk; (echo x >>/large); echo large $?; \
                (echo x >>/huge); read -r -N 4 x </large && echo whole $x; (echo small >/root/again) && echo room; \
                for p in raised capable; do while read -r n v r; do \
                case $n in Uid:|CapEff:) echo $p $n $v $r;; esac; done < <(/bin/$p /proc/self/status); done";
    let looked = within(a, ZONE, line);
    delete(a, ZONE)?;
    ensure!(made == 0, "{why}");
    let (_, text) = looked?;
    marked.remove()?;
    let told = |line: &str| text.lines().any(|found| found.split_whitespace().eq(line.split(' ')));
    ensure!(text.starts_with("led\n"), "a directory leads elsewhere: {text}");
    ensure!(!text.contains("root:"), "a file leads elsewhere: {text}");
    for device in ["/zero", "/disk"] {
        let refused = format!("{device}: Permission denied");
        ensure!(text.contains(&refused), "{device}: {text}");
    }
    let refused = told("large 1") && told("whole llll") && text.contains("No space left");
    ensure!(refused, "more was copied up than there is room for: {text}");
    ensure!(told("room"), "what was not copied up takes room: {text}");
    for program in ["raised", "capable"] {
        ensure!(told(&format!("{program} Uid: 0 0 0 0")), "{program}: {text}");
        ensure!(told(&format!("{program} CapEff: 00000000000000fb")), "{program}: {text}");
    }
    held(32, "and those of an image are inert");
    held(33, "and those of an image gain nothing");
    held(
        40,
        "and an image's marks lead nowhere; a copy ends with the zone's room, of 24 MiB or 10 GiB",
    );
    Ok(())
}

fn marked_image() -> Result<Vec<u8>> {
    let plain = Meta::of_mode(0o755);
    let with = |mode, attributes: &[(&str, &[u8])]| Meta {
        attributes: attributes
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
            .collect(),
        ..Meta::of_mode(mode)
    };
    let mut image = Stream::begin(Cursor::new(Vec::new()), &plain)?;
    let all = programs()?;
    let cat = std::fs::read("/bin/cat")?;
    for folder in ["bin", "lib", "lib64"] {
        image.enter(folder.as_bytes(), &plain)?;
        let top = Path::new("/").join(folder);
        let within: Vec<_> = all.iter().filter_map(|path| path.strip_prefix(&top).ok()).collect();
        add(&mut image, &top, &within)?;
        if folder == "bin" {
            let raised = Meta { user: 1000, group: 1000, ..Meta::of_mode(0o6755) };
            image.file(b"raised", &raised, 1, cat.len() as u64, &mut &cat[..])?;
            let capable = with(0o755, &[("security.capability", &CAPABILITIES)]);
            image.file(b"capable", &capable, 1, cat.len() as u64, &mut &cat[..])?;
        }
        image.leave()?;
    }
    image.enter(b"etc", &plain)?;
    image.file(b"passwd", &Meta::of_mode(0o644), 1, 7, &mut &b"root:x\n"[..])?;
    image.leave()?;
    let led = with(0o755, &[("trusted.overlay.redirect", b"/etc")]);
    image.enter(b"led", &led)?;
    image.leave()?;
    let meta = with(
        0o644,
        &[("trusted.overlay.metacopy", b""), ("trusted.overlay.redirect", b"/etc/passwd")],
    );
    image.file(b"meta", &meta, 1, 4, &mut &b"own\n"[..])?;
    let large = vec![b'l'; LARGE_BYTES];
    image.file(b"large", &Meta::of_mode(0o666), 1, large.len() as u64, &mut &large[..])?;
    image.absent(b"huge", &Meta::of_mode(0o666), 1, HUGE_BYTES)?;
    let all_may = Meta::of_mode(0o666);
    image.device(b"zero", &all_may, 1, Device::Character { major: 1, minor: 5 })?;
    image.device(b"disk", &all_may, 1, Device::Block { major: 254, minor: 0 })?;
    Ok(image.finish()?.0.into_inner())
}

/// Adds files below a directory by their paths, directories where they are needed.
fn add(image: &mut Stream<Cursor<Vec<u8>>>, top: &Path, paths: &[&Path]) -> Result<()> {
    let mut folders: Vec<&Path> = Vec::new();
    for path in paths {
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder.as_os_str().is_empty() {
            let content = std::fs::read(top.join(path))?;
            let name = path.as_os_str().as_encoded_bytes();
            let size = content.len() as u64;
            image.file(name, &Meta::of_mode(0o755), 1, size, &mut &content[..])?;
        } else if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    for folder in folders {
        image.enter(folder.as_os_str().as_encoded_bytes(), &Meta::of_mode(0o755))?;
        let inner: Vec<_> =
            paths.iter().filter_map(|path| path.strip_prefix(folder).ok()).collect();
        add(image, &top.join(folder), &inner)?;
        image.leave()?;
    }
    Ok(())
}
