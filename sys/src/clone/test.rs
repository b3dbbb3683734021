//! Programs that are started, and those that are not.

use super::*;
use std::fs::File;
use std::io::Read;

fn shell<'a>(
    line: &'a [&'a CStr],
    environment: &'a [&'a CStr],
    descriptors: &'a [BorrowedFd<'a>],
) -> Spawn<'a> {
    Spawn {
        program: Program::Path(c"/bin/sh"),
        arguments: line,
        environment,
        descriptors,
        cgroup: None,
        namespaces: Namespaces::default(),
    }
}

#[test]
fn a_program_gets_its_descriptors_its_environment_and_no_more() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let descriptors = [null.as_fd(), writer.as_fd(), null.as_fd()];
    let line = [c"sh", c"-c", c"echo $A; cd /proc/self/fd && echo *"];
    let child = spawn(&shell(&line, &[c"A=b"], &descriptors)).unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    reap(child.pidfd.as_fd()).unwrap();
    // The last one is the shell's own, on the directory it lists.
    assert_eq!(text, "b\n0 1 2 3\n");
}

#[test]
fn descriptors_that_trade_places_arrive_where_they_should() {
    let (one, one_writer) = nix::unistd::pipe().unwrap();
    let (two, two_writer) = nix::unistd::pipe().unwrap();
    let mut order = [one_writer.as_fd(), two_writer.as_fd()];
    order.sort_by_key(|fd| std::cmp::Reverse(fd.as_raw_fd()));
    let descriptors = [order[0], order[1], order[0], order[1]];
    let line = [c"sh", c"-c", c"printf a >&0; printf b >&1; printf c >&2; printf d >&3"];
    let child = spawn(&shell(&line, &[], &descriptors)).unwrap();
    reap(child.pidfd.as_fd()).unwrap();
    drop((one_writer, two_writer));
    let mut texts = [String::new(), String::new()];
    File::from(one).read_to_string(&mut texts[0]).unwrap();
    File::from(two).read_to_string(&mut texts[1]).unwrap();
    texts.sort();
    assert_eq!(texts, ["ac", "bd"]);
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_no_child() {
    let line = [c"nothing"];
    let start = Spawn { program: Program::Path(c"/no/such"), ..shell(&line, &[], &[]) };
    assert_eq!(spawn(&start).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_failure_is_told_however_many_descriptors_the_program_was_to_get() {
    let null = File::open("/dev/null").unwrap();
    let descriptors = [null.as_fd(); DESCRIPTORS_MAX];
    let line = [c"nothing"];
    let start = Spawn { program: Program::Path(c"/no/such"), ..shell(&line, &[], &descriptors) };
    assert_eq!(spawn(&start).unwrap_err().kind(), io::ErrorKind::NotFound);
    let many = [null.as_fd(); DESCRIPTORS_MAX + 1];
    let start = Spawn { descriptors: &many, ..start };
    assert_eq!(spawn(&start).unwrap_err().raw_os_error(), Some(libc::EMFILE));
}

#[test]
fn a_program_is_started_from_its_file() {
    let program = File::open("/bin/true").unwrap();
    let line = [c"true"];
    let start = Spawn { program: Program::File(program.as_fd()), ..shell(&line, &[], &[]) };
    let child = spawn(&start).unwrap();
    reap(child.pidfd.as_fd()).unwrap();
    assert_eq!(reap(child.pidfd.as_fd()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
}
