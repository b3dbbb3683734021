//! A tree in memory, for images whose files come in any order and replace each other: the layers of a
//! container. Files' bytes need not be in it.

use crate::directory;
use crate::error::{Error, shown};
use crate::meta::{Device, Meta};
use crate::stream::{Inode, Stream, Written};
use std::collections::btree_map::{self, BTreeMap};
use std::io::{self, Read, Seek, Write};

/// Names a node of one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes, which whoever writes the tree asks for under this key.
    Streamed {
        /// Their count.
        size: u64,
        /// Names them.
        key: u64,
    },
    /// So many bytes, none of which are here.
    Absent {
        /// Their count.
        size: u64,
    },
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory, by the names in it.
    Directory(BTreeMap<Vec<u8>, NodeId>),
    /// A file.
    File(Contents),
    /// A symbolic link to this path.
    Symlink(Vec<u8>),
    /// A device, a pipe, a socket.
    Device(Device),
}

impl Node {
    /// A directory with nothing in it.
    #[must_use]
    pub fn directory() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

/// A tree. What is taken out of it stays in memory until the tree goes.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<(Node, Meta)>,
}

impl Tree {
    /// A tree of nothing but this root.
    #[must_use]
    pub fn new(root: Meta) -> Self {
        Self { nodes: vec![(Node::directory(), root)] }
    }

    /// The root, a directory.
    #[must_use]
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// What a node is.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0].0
    }

    /// Who owns it, and the rest.
    #[must_use]
    pub fn meta(&self, id: NodeId) -> &Meta {
        &self.nodes[id.0].1
    }

    /// Likewise, to be changed.
    pub fn meta_mut(&mut self, id: NodeId) -> &mut Meta {
        &mut self.nodes[id.0].1
    }

    /// What stands under a name in a directory; nothing, too, if it is none.
    #[must_use]
    pub fn look(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match self.node(directory) {
            Node::Directory(entries) => entries.get(name).copied(),
            Node::File(_) | Node::Symlink(_) | Node::Device(_) => None,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id), Node::Directory(_))
    }

    /// Puts a new node under a name, in place of whatever stood there.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Kind`] if `directory` is none, or the node is one with entries.
    pub fn insert(
        &mut self,
        directory: NodeId,
        name: &[u8],
        node: Node,
        meta: Meta,
    ) -> Result<NodeId, Error> {
        if matches!(&node, Node::Directory(entries) if !entries.is_empty()) {
            return Err(Error::Kind { name: shown(name), is: "a directory that is not empty yet" });
        }
        let id = NodeId(self.nodes.len());
        self.entries(directory, name)?.insert(name.to_vec(), id);
        self.nodes.push((node, meta));
        Ok(id)
    }

    /// Gives a node that is no directory one more name.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Kind`] if `directory` is none or `node` is one.
    pub fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId) -> Result<(), Error> {
        if self.is_directory(node) {
            return Err(Error::Kind { name: shown(name), is: "a directory, which has one name" });
        }
        self.entries(directory, name)?.insert(name.to_vec(), node);
        Ok(())
    }

    /// Takes a name out of a directory, and with it what is below; whether it was there.
    pub fn remove(&mut self, directory: NodeId, name: &[u8]) -> bool {
        match &mut self.nodes[directory.0].0 {
            Node::Directory(entries) => entries.remove(name).is_some(),
            Node::File(_) | Node::Symlink(_) | Node::Device(_) => false,
        }
    }

    /// Empties a directory.
    pub fn clear(&mut self, directory: NodeId) {
        if let Node::Directory(entries) = &mut self.nodes[directory.0].0 {
            entries.clear();
        }
    }

    fn entries(
        &mut self,
        directory: NodeId,
        name: &[u8],
    ) -> Result<&mut BTreeMap<Vec<u8>, NodeId>, Error> {
        directory::check(name)?;
        match &mut self.nodes[directory.0].0 {
            Node::Directory(entries) => Ok(entries),
            Node::File(_) | Node::Symlink(_) | Node::Device(_) => {
                Err(Error::Kind { name: shown(name), is: "to be put into what is no directory" })
            }
        }
    }

    /// How many names each node has that can be reached from the root.
    fn names(&self) -> Vec<u32> {
        let mut names = vec![0_u32; self.nodes.len()];
        let mut open = vec![self.root()];
        while let Some(id) = open.pop() {
            let Node::Directory(entries) = self.node(id) else { continue };
            for &entry in entries.values() {
                names[entry.0] = names[entry.0].saturating_add(1);
                if self.is_directory(entry) {
                    open.push(entry);
                }
            }
        }
        names
    }
}

/// Gives the bytes of streamed files, by their keys.
pub type Source<'a> = dyn FnMut(u64) -> io::Result<Box<dyn Read + 'a>> + 'a;

/// Writes a tree as an image, from the start of `out`, which is empty. Each streamed file is asked for once,
/// in the order of the tree.
///
/// # Errors
/// [`Error`].
pub fn write<W: Write + Seek>(
    tree: &Tree,
    source: &mut Source<'_>,
    out: W,
) -> Result<(W, Written), Error> {
    let mut writer = Writer {
        tree,
        stream: Stream::begin(out, tree.meta(tree.root()))?,
        names: tree.names(),
        written: BTreeMap::new(),
    };
    // By hand, because a tree may be deeper than a stack.
    let mut open = vec![writer.entries(tree.root())];
    while let Some(entries) = open.last_mut() {
        let Some((name, &id)) = entries.next() else {
            open.pop();
            if !open.is_empty() {
                writer.stream.leave()?;
            }
            continue;
        };
        if tree.is_directory(id) {
            writer.stream.enter(name, tree.meta(id))?;
            open.push(writer.entries(id));
        } else {
            writer.put(name, id, source)?;
        }
    }
    writer.stream.finish()
}

struct Writer<'a, W> {
    tree: &'a Tree,
    stream: Stream<W>,
    names: Vec<u32>,
    /// What has further names to come.
    written: BTreeMap<NodeId, Inode>,
}

impl<'a, W: Write + Seek> Writer<'a, W> {
    fn entries(&self, id: NodeId) -> btree_map::Iter<'a, Vec<u8>, NodeId> {
        static NOTHING: BTreeMap<Vec<u8>, NodeId> = BTreeMap::new();
        match self.tree.node(id) {
            Node::Directory(entries) => entries.iter(),
            Node::File(_) | Node::Symlink(_) | Node::Device(_) => NOTHING.iter(),
        }
    }

    fn put(&mut self, name: &[u8], id: NodeId, source: &mut Source<'_>) -> Result<(), Error> {
        if let Some(&inode) = self.written.get(&id) {
            return self.stream.name(name, inode);
        }
        let (meta, links) = (self.tree.meta(id), self.names[id.0]);
        let inode = match self.tree.node(id) {
            Node::File(Contents::Bytes(bytes)) => {
                self.stream.file(name, meta, links, bytes.len() as u64, &mut bytes.as_slice())?
            }
            Node::File(Contents::Streamed { size, key }) => {
                let mut contents = source(*key).map_err(Error::io("open a file's bytes"))?;
                self.stream.file(name, meta, links, *size, &mut contents)?
            }
            Node::File(Contents::Absent { size }) => {
                self.stream.absent(name, meta, links, *size)?
            }
            Node::Symlink(target) => self.stream.symlink(name, meta, links, target)?,
            Node::Device(device) => self.stream.device(name, meta, links, *device)?,
            Node::Directory(_) => unreachable!("directories are entered"),
        };
        if links > 1 {
            self.written.insert(id, inode);
        }
        Ok(())
    }
}
