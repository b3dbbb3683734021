//! A node, the zones on it and the world outside, each a network namespace; and what a tenant tries.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use sys::namespace;
use sys::netlink::{Link, Netlink};

/// The world outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The node, as the world sees it.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// What a tenant can try, one a line of its input; it answers each with a line.
const TENANT: &str = r#"
import errno, os, socket, sys, time
def word(error):
    return errno.errorcode.get(error.errno, str(error.errno)) if error.errno else str(error)
def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET
def tcp(address, port):
    with socket.socket(family(address), socket.SOCK_STREAM) as s:
        s.settimeout(3)
        s.connect((address, int(port)))
        return s.recv(64).decode()
def udp(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.sendto(b"ping", (address, int(port)))
        return s.recv(64).decode()
def options(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(1)
        s.setsockopt(socket.IPPROTO_IP, 4, bytes([1, 131, 7, 4]) + socket.inet_aton(address))
        s.connect((address, int(port)))
        return "connected"
def kind(kind, protocol):
    socket.socket(socket.AF_INET, int(kind), int(protocol)).close()
    return "made"
def bind(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.bind(("0.0.0.0", int(port)))
        return "bound"
def send(address, port, seconds):
    with socket.create_connection((address, int(port))) as s:
        end, block = time.monotonic() + float(seconds), bytes(65536)
        while time.monotonic() < end:
            s.sendall(block)
    return "sent"
def receive(address, port, seconds):
    with socket.create_connection((address, int(port))) as s:
        # Not the beginning: losses in it hold back data that then arrives at once.
        start = time.monotonic() + 2
        while time.monotonic() < start:
            s.recv(65536)
        count, begin = 0, time.monotonic()
        while time.monotonic() < begin + float(seconds):
            count += len(s.recv(65536))
        return str(count / (time.monotonic() - begin))
def device(path):
    os.close(os.open(path, os.O_RDONLY))
    return "opened"
for line in sys.stdin:
    act, *rest = line.split()
    try:
        print(globals()[act](*rest), flush=True)
    except (OSError, TimeoutError) as error:
        print(word(error), flush=True)
"#;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A node with an uplink to the world outside, and a cgroup for its zones.
pub struct Node {
    outside: OwnedFd,
    pub cgroup: PathBuf,
}

/// Runs a test on a thread whose network is a new node's.
pub fn on_a_node(test: impl FnOnce(&Node) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/python3").exists() {
        return println!("skipped: networks of zones take root and python3");
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(root) = root.and_then(|line| line.split(' ').nth(1)) else {
        return println!("skipped: no cgroup v2 is mounted here");
    };
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let cgroup = Path::new(root).join(format!("mobula-network-{}-{number}", std::process::id()));
    std::thread::spawn(move || {
        let (node, outside) = (namespace::network().unwrap(), namespace::network().unwrap());
        namespace::enter_network(node.as_fd()).unwrap();
        fs::create_dir(&cgroup).unwrap();
        uplink(&outside);
        test(&Node { outside, cgroup });
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn uplink(outside: &OwnedFd) {
    let mut netlink = Netlink::open().unwrap();
    netlink.make_pair("uplink", "world", outside.as_fd()).unwrap();
    raise("uplink", NODE);
    namespace::within_network(outside.as_fd(), || raise("world", OUTSIDE)).unwrap();
}

fn raise(name: &str, address: Ipv4Addr) {
    let link = Link(nix::net::if_::if_nametoindex(name).unwrap());
    let mut netlink = Netlink::open().unwrap();
    netlink.bring_up(Link(1)).unwrap();
    netlink.set_address(link, address, 24).unwrap();
    netlink.bring_up(link).unwrap();
}

impl Drop for Node {
    fn drop(&mut self) {
        for folder in fs::read_dir(&self.cgroup).unwrap().flatten() {
            if folder.path().is_dir() {
                fs::remove_dir(folder.path()).unwrap();
            }
        }
        fs::remove_dir(&self.cgroup).unwrap();
    }
}

impl Node {
    /// Makes a cgroup and a network namespace such as a zone has.
    pub fn zone(&self, name: &str) -> Zone {
        let cgroup = self.cgroup.join(name);
        fs::create_dir(&cgroup).unwrap();
        let id = fs::metadata(&cgroup).unwrap().ino();
        Zone { cgroup, id, namespace: namespace::network().unwrap(), watched: true }
    }

    /// Runs in the world outside.
    pub fn outside<T>(&self, act: impl FnOnce() -> T) -> T {
        namespace::within_network(self.outside.as_fd(), act).unwrap()
    }

    /// A server outside that tells each caller its address.
    pub fn echo(&self, port: u16) {
        let address = (Ipv4Addr::UNSPECIFIED, port);
        let (tcp, udp) = self
            .outside(|| (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()));
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let from = stream.peer_addr().unwrap().ip().to_string();
                (&stream).write_all(from.as_bytes()).unwrap();
            }
        });
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut bytes) {
                udp.send_to(from.ip().to_string().as_bytes(), from).unwrap();
            }
        });
    }
}

pub struct Zone {
    cgroup: PathBuf,
    pub id: u64,
    pub namespace: OwnedFd,
    watched: bool,
}

impl Zone {
    /// The same network without the programs: its processes stay in the test's own cgroup.
    pub fn unwatched(mut self) -> Self {
        self.watched = false;
        self
    }

    /// What the tenant is answered when it tries these.
    pub fn tries(&self, acts: &[&str]) -> Vec<String> {
        let fd = self.namespace.as_raw_fd();
        let pid = std::process::id();
        let path = self.cgroup.join("cgroup.procs");
        let enter =
            if self.watched { format!("echo $$ >{} &&", path.display()) } else { String::new() };
        let script = format!("{enter} exec nsenter --net=/proc/{pid}/fd/{fd} python3 -c \"$1\"");
        let mut child = Command::new("timeout")
            .args(["60", "sh", "-c", &script, "sh", TENANT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(acts.join("\n").as_bytes()).unwrap();
        drop(input);
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        text.lines().map(str::to_owned).collect()
    }
}
