//! Layers laid over each other, in memory: names, owners, modes, and where each file's bytes are.
//!
//! Pure. A path means what it would mean with the image as the root: symbolic links to directories are
//! followed within it, and there is nothing outside that a name could reach. Whiteouts (OCI image
//! specification, layer.md) take away what lower layers brought, never what their own layer did. What an
//! image may not bring (devices, the names that zones mount on as anything but directories) is left out
//! and counted.

mod walk;

use super::error::ImportError;
use super::limits::Limits;
use super::path::parts;
use super::tar::{Attribute, Entry, EntryKind};
use std::collections::BTreeMap;

/// What a whiteout's name begins with.
const WHITEOUT: &[u8] = b".wh.";
/// Takes away all that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of aufs, which mean nothing in an image.
const AUFS: &[u8] = b".wh..wh.";
/// Where an image's own configuration stands in it.
pub const CONFIGURATION: &[u8] = b".mobula-image.json";
/// What every zone mounts something on, or makes a directory of.
const MOUNTED_ON: [(&[u8], u16); 8] = [
    (b"assets", 0o755),
    (b"dev", 0o755),
    (b"manta", 0o755),
    (b"out", 0o755),
    (b"proc", 0o555),
    (b"root", 0o700),
    (b"sys", 0o555),
    (b"tmp", 0o1777),
];
/// A directory that no layer describes.
const IMPLIED: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0 };

/// The number of a node in its tree.
pub type NodeId = u32;
/// The root's.
const ROOT: NodeId = 0;

/// What is known of a node besides what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, in seconds since 1970.
    pub mtime: u64,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// In which layer.
    pub layer: u16,
    /// Where in it, unpacked.
    pub at: u64,
    /// How many.
    pub size: u64,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// What it names.
    pub node: NodeId,
    /// The layer that said so last.
    layer: u16,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory(BTreeMap<Box<[u8]>, Child>),
    /// A file.
    File(Content),
    /// A symbolic link to this.
    Symlink(Box<[u8]>),
    /// A pipe.
    Fifo,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its owner and so on.
    pub meta: Meta,
    /// Its extended attributes.
    pub attributes: Box<[Attribute]>,
    /// What it is.
    pub kind: Kind,
}

impl Node {
    /// A directory with nothing in it.
    fn folder(meta: Meta) -> Self {
        Self { meta, attributes: Box::default(), kind: Kind::Directory(BTreeMap::new()) }
    }
}

/// What was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Devices: zones have their own.
    pub devices: u64,
    /// Things in places where a zone mounts something.
    pub in_the_way: u64,
    /// Extended attributes that are not everybody's to set.
    pub attributes: u64,
}

/// The merged layers.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    name_bytes: u64,
    name_bytes_max: u64,
    /// What was left out.
    pub left_out: LeftOut,
}

/// A place for a name: its directory and the name.
type Place<'a> = (NodeId, &'a [u8]);

impl Tree {
    /// An empty root.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let root = Node::folder(IMPLIED);
        let (name_bytes, name_bytes_max) = (0, limits.name_bytes);
        Self { nodes: vec![root], name_bytes, name_bytes_max, left_out: LeftOut::default() }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.nodes[ROOT as usize]
    }

    /// A node that a directory named.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// Lays an entry of a layer over what is there. Layers come in order, the lowest first. In a tarball
    /// of a root, whiteouts are names like any other.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn apply(&mut self, layer: u16, entry: &Entry, whiteouts: bool) -> Result<(), ImportError> {
        let Entry { path, mode, uid, gid, mtime, .. } = entry;
        let meta = Meta { mode: *mode, uid: *uid, gid: *gid, mtime: *mtime };
        self.left_out.attributes += entry.attributes_left_out;
        let parts = parts(path)?;
        let Some((name, folders)) = parts.split_last() else {
            return match entry.kind {
                EntryKind::Directory => {
                    let attributes = self.attributes(entry)?;
                    let root = &mut self.nodes[ROOT as usize];
                    (root.meta, root.attributes) = (meta, attributes);
                    Ok(())
                }
                _ => Err(ImportError::entry(path, "is the root and no directory")),
            };
        };
        if whiteouts && folders.iter().any(|folder| folder.starts_with(WHITEOUT)) {
            return Err(ImportError::entry(path, "lies in a whiteout, which is no directory"));
        }
        if whiteouts && name.starts_with(WHITEOUT) {
            return self.white_out(layer, path, folders, name);
        }
        if entry.kind == EntryKind::Device {
            self.left_out.devices += 1;
            return Ok(());
        }
        let place = (self.folder(layer, path, folders)?, *name);
        if self.is_in_the_way(place, &entry.kind) {
            self.left_out.in_the_way += 1;
            return Ok(());
        }
        let kind = match &entry.kind {
            EntryKind::Device => unreachable!("devices were left out above"),
            EntryKind::HardLink(target) => return self.link(layer, path, place, target),
            EntryKind::Directory => {
                let attributes = self.attributes(entry)?;
                return self.directory(layer, place, meta, attributes);
            }
            EntryKind::File => Kind::File(Content { layer, at: entry.at, size: entry.size }),
            EntryKind::Symlink(target) => {
                if target.is_empty() || target.len() > erofs::LINK_BYTES_MAX || target.contains(&0)
                {
                    return Err(ImportError::entry(path, "is a link to no path"));
                }
                self.count(target.len())?;
                Kind::Symlink(target.as_slice().into())
            }
            EntryKind::Fifo => Kind::Fifo,
        };
        let attributes = self.attributes(entry)?;
        let node = self.add(Node { meta, attributes, kind });
        self.name(place, Child { node, layer })
    }

    /// Whether a zone could not be made with this in its root.
    fn is_in_the_way(&self, (folder, name): Place<'_>, kind: &EntryKind) -> bool {
        let mounted_on = MOUNTED_ON.iter().any(|(other, _)| *other == name);
        folder == ROOT && (name == CONFIGURATION || mounted_on && *kind != EntryKind::Directory)
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId::try_from(self.nodes.len()).expect("entries are limited");
        self.nodes.push(node);
        id
    }

    fn count(&mut self, bytes: usize) -> Result<(), ImportError> {
        self.name_bytes += bytes as u64;
        if self.name_bytes > self.name_bytes_max {
            return Err(ImportError::Limit { what: "bytes of names", most: self.name_bytes_max });
        }
        Ok(())
    }

    fn children(&self, id: NodeId) -> Option<&BTreeMap<Box<[u8]>, Child>> {
        match &self.node(id).kind {
            Kind::Directory(children) => Some(children),
            Kind::File(_) | Kind::Symlink(_) | Kind::Fifo => None,
        }
    }

    fn children_mut(&mut self, id: NodeId) -> &mut BTreeMap<Box<[u8]>, Child> {
        match &mut self.nodes[id as usize].kind {
            Kind::Directory(children) => children,
            Kind::File(_) | Kind::Symlink(_) | Kind::Fifo => unreachable!("it is a directory"),
        }
    }

    fn child(&self, (folder, name): Place<'_>) -> Option<Child> {
        self.children(folder)?.get(name).copied()
    }

    /// Puts a name in a directory, in place of what has it.
    fn name(&mut self, (folder, name): Place<'_>, child: Child) -> Result<(), ImportError> {
        self.count(name.len())?;
        self.children_mut(folder).insert(name.into(), child);
        Ok(())
    }

    /// An entry's attributes, which count like names.
    fn attributes(&mut self, entry: &Entry) -> Result<Box<[Attribute]>, ImportError> {
        let bytes = entry.attributes.iter().map(|(name, value)| name.len() + value.len());
        self.count(bytes.sum())?;
        Ok(entry.attributes.clone().into_boxed_slice())
    }

    fn directory(
        &mut self,
        layer: u16,
        place: Place<'_>,
        meta: Meta,
        attributes: Box<[Attribute]>,
    ) -> Result<(), ImportError> {
        let known = self.child(place).map(|child| child.node);
        let node = match known.filter(|node| self.children(*node).is_some()) {
            // What is in it stays.
            Some(node) => {
                let known = &mut self.nodes[node as usize];
                (known.meta, known.attributes) = (meta, attributes);
                node
            }
            None => self.add(Node { attributes, ..Node::folder(meta) }),
        };
        self.name(place, Child { node, layer })
    }

    fn link(
        &mut self,
        layer: u16,
        path: &[u8],
        place: Place<'_>,
        target: &[u8],
    ) -> Result<(), ImportError> {
        let refused = |why| Err(ImportError::entry(path, why));
        let Ok(target) = parts(target) else {
            return refused("is a hard link to something outside the image");
        };
        let Some((last, above)) = target.split_last() else {
            return refused("is a hard link to the root");
        };
        let found = self.walk(path, above, None)?.and_then(|folder| self.child((folder, last)));
        let Some(found) = found else {
            return refused("is a hard link to something that is not there");
        };
        if self.children(found.node).is_some() {
            return refused("is a hard link to a directory");
        }
        self.name(place, Child { node: found.node, layer })
    }

    fn white_out(
        &mut self,
        layer: u16,
        path: &[u8],
        folders: &[&[u8]],
        name: &[u8],
    ) -> Result<(), ImportError> {
        let gone = &name[WHITEOUT.len()..];
        if matches!(gone, b"" | b"." | b"..") {
            return Err(ImportError::entry(path, "is a whiteout of no name"));
        }
        // What is not there need not be taken away.
        let Some(folder) = self.walk(path, folders, None)? else { return Ok(()) };
        if name == OPAQUE {
            self.clear_older(folder, layer);
        } else if !name.starts_with(AUFS)
            && let Some(child) = self.child((folder, gone))
        {
            self.clear_older(child.node, layer);
            // A directory in which this layer has already put something stays for it.
            let is_empty = self.children(child.node).is_none_or(BTreeMap::is_empty);
            if child.layer < layer && is_empty {
                self.children_mut(folder).remove(gone);
            }
        }
        Ok(())
    }

    /// Takes away everything in a directory that lower layers brought.
    fn clear_older(&mut self, folder: NodeId, layer: u16) {
        let mut folders = vec![folder];
        let mut emptied = Vec::new();
        while let Some(id) = folders.pop() {
            let Some(children) = self.children(id) else { continue };
            for (name, child) in children {
                if self.children(child.node).is_some() {
                    folders.push(child.node);
                }
                if child.layer < layer {
                    emptied.push((id, name.clone(), child.node));
                }
            }
        }
        // Those furthest down come last, and go first: what then still holds something is of this layer.
        for (id, name, node) in emptied.into_iter().rev() {
            if self.children(node).is_none_or(BTreeMap::is_empty) {
                self.children_mut(id).remove(&name);
            }
        }
    }

    /// Makes the directories that every zone mounts something on.
    pub fn complete(&mut self) {
        for (name, mode) in MOUNTED_ON {
            let known = self.child((ROOT, name)).map(|child| child.node);
            if known.is_some_and(|node| self.children(node).is_some()) {
                continue;
            }
            let meta = Meta { mode, ..IMPLIED };
            let node = self.add(Node::folder(meta));
            self.children_mut(ROOT).insert(name.into(), Child { node, layer: 0 });
        }
    }

    /// Bytes of all files that the tree names, each once.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.contents().iter().map(|(_, content)| content.size).sum()
    }

    /// All files that the tree names, each once, by layer and place.
    #[must_use]
    pub fn contents(&self) -> Vec<(NodeId, Content)> {
        let mut found: Vec<(NodeId, Content)> = Vec::new();
        let mut folders = vec![ROOT];
        while let Some(id) = folders.pop() {
            for child in self.children(id).into_iter().flat_map(BTreeMap::values) {
                match &self.node(child.node).kind {
                    Kind::Directory(_) => folders.push(child.node),
                    Kind::File(content) => found.push((child.node, *content)),
                    Kind::Symlink(_) | Kind::Fifo => {}
                }
            }
        }
        found.sort_unstable_by_key(|(id, content)| (content.layer, content.at, *id));
        found.dedup_by_key(|(id, _)| *id);
        found
    }
}
