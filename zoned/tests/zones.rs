//! Real tasks in real zones on this host, with a storaged of a few lines.

mod common;

use common::{Node, alone};
use wire::task::Ending;

const EXITED: Ending = Ending::Exited { code: 0 };

#[test]
fn a_map_reads_its_object_and_writes_its_output() {
    alone("a_map_reads_its_object_and_writes_its_output", || {
        let done = Node::start().map("tr a-z A-Z; echo to stderr >&2", b"hello\n");
        assert_eq!((done.ending, done.stdout.as_str()), (EXITED, "HELLO\n"));
        assert_eq!(done.stderr, "to stderr\n");
        assert!(done.usage.wall_us > 0 && done.usage.cpu_us > 0, "{:?}", done.usage);
    });
}
