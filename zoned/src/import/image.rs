//! The merged tree as an EROFS image: first every name and the places of all bytes, then the bytes, layer
//! by layer as they come out of the archive. So no layer is ever kept, in memory or on a disk.

use super::error::ImportError;
use super::merge::{CONFIGURATION, Kind, Meta, NodeId, Tree};
use super::source::Stream as _;
use super::source::Unpacked;
use erofs::{Device, Inode, Reserved, Stream, Time};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};

/// Bytes copied at once.
const CHUNK_BYTES: usize = 128 * 1024;
/// Where a zone's own list of names in `/` has none, the configuration is everybody's to read.
const CONFIGURATION_META: Meta = Meta { mode: 0o444, uid: 0, gid: 0, mtime: 0 };

/// Where a file's bytes go.
pub type Places = BTreeMap<NodeId, Reserved>;

/// Writes all names, and the configuration if there is one; gives where the files' bytes go.
///
/// # Errors
/// [`ImportError`].
pub fn write_names<W: Write + Seek>(
    tree: &Tree,
    configuration: Option<&[u8]>,
    out: W,
) -> Result<(W, Places, u64), ImportError> {
    let mut stream = Stream::begin(out, &described(tree.root()))?;
    if let Some(text) = configuration {
        let (size, meta) = (text.len() as u64, meta(&CONFIGURATION_META));
        stream.file(CONFIGURATION, &meta, 1, size, &mut &*text)?;
    }
    let mut names = Names {
        tree,
        stream,
        links: links(tree),
        inodes: BTreeMap::new(),
        places: BTreeMap::new(),
    };
    names.directory(tree.root())?;
    let Names { stream, places, .. } = names;
    let (mut out, written) = stream.finish()?;
    // Blocks that only files' bytes will fill count already.
    let end = out.seek(SeekFrom::End(0)).map_err(ImportError::Write)?;
    if end < written.bytes {
        out.seek(SeekFrom::Start(written.bytes - 1)).map_err(ImportError::Write)?;
        out.write_all(&[0]).map_err(ImportError::Write)?;
    }
    Ok((out, places, written.bytes))
}

/// How often each node that is no directory is named, where that is more than once.
fn links(tree: &Tree) -> BTreeMap<NodeId, u32> {
    let mut links: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut folders = vec![tree.root()];
    while let Some(folder) = folders.pop() {
        let Kind::Directory(children) = &folder.kind else { continue };
        for child in children.values() {
            match &tree.node(child.node).kind {
                Kind::Directory(_) => folders.push(tree.node(child.node)),
                Kind::File(_) | Kind::Symlink(_) | Kind::Fifo => {
                    *links.entry(child.node).or_default() += 1;
                }
            }
        }
    }
    links.retain(|_, count| *count > 1);
    links
}

struct Names<'a, W> {
    tree: &'a Tree,
    stream: Stream<W>,
    links: BTreeMap<NodeId, u32>,
    /// What has been written of those that have several names.
    inodes: BTreeMap<NodeId, Inode>,
    places: Places,
}

impl<W: Write + Seek> Names<'_, W> {
    /// All that is in a directory. Their depth is limited, and so is this.
    fn directory(&mut self, folder: &super::merge::Node) -> Result<(), ImportError> {
        let Kind::Directory(children) = &folder.kind else { return Ok(()) };
        for (name, child) in children {
            let node = self.tree.node(child.node);
            if let Kind::Directory(_) = node.kind {
                self.stream.enter(name, &described(node))?;
                self.directory(node)?;
                self.stream.leave()?;
            } else if let Some(inode) = self.inodes.get(&child.node) {
                self.stream.name(name, *inode)?;
            } else {
                let inode = self.node(name, child.node)?;
                if self.links.contains_key(&child.node) {
                    self.inodes.insert(child.node, inode);
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, name: &[u8], id: NodeId) -> Result<Inode, ImportError> {
        let node = self.tree.node(id);
        let (meta, links) = (described(node), self.links.get(&id).copied().unwrap_or(1));
        match &node.kind {
            Kind::Directory(_) => unreachable!("directories are entered"),
            Kind::Symlink(target) => Ok(self.stream.symlink(name, &meta, links, target)?),
            Kind::Fifo => Ok(self.stream.device(name, &meta, links, Device::Fifo)?),
            Kind::File(content) => {
                let (inode, place) = self.stream.reserve(name, &meta, links, content.size)?;
                self.places.insert(id, place);
                Ok(inode)
            }
        }
    }
}

fn described(node: &super::merge::Node) -> erofs::Meta {
    erofs::Meta { attributes: node.attributes.to_vec(), ..meta(&node.meta) }
}

fn meta(meta: &Meta) -> erofs::Meta {
    let seconds = i64::try_from(meta.mtime).unwrap_or(i64::MAX);
    erofs::Meta {
        mode: meta.mode,
        user: meta.uid,
        group: meta.gid,
        modified: Time { seconds, nanoseconds: 0 },
        attributes: Vec::new(),
    }
}

/// Copies the bytes of a layer's files to their places.
///
/// # Errors
/// [`ImportError`].
pub fn write_layer<W: Write + Seek>(
    out: &mut W,
    what: &str,
    mut layer: Unpacked<'_>,
    files: &[(NodeId, super::merge::Content)],
    places: &Places,
) -> Result<(), ImportError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    for (id, content) in files {
        let place = places.get(id).expect("every file has a place");
        let before = content.at.checked_sub(layer.bytes).expect("files are in their order");
        layer.skip(before).map_err(ImportError::read(what))?;
        for (at, bytes) in [(place.whole_at, place.whole_bytes), (place.tail_at, place.tail_bytes)]
        {
            if bytes > 0 {
                out.seek(SeekFrom::Start(at)).map_err(ImportError::Write)?;
                copy(out, what, &mut layer, bytes, &mut chunk)?;
            }
        }
    }
    Ok(())
}

fn copy<W: Write>(
    out: &mut W,
    what: &str,
    from: &mut Unpacked<'_>,
    mut bytes: u64,
    chunk: &mut [u8],
) -> Result<(), ImportError> {
    while bytes > 0 {
        let part = usize::try_from(bytes).unwrap_or(usize::MAX).min(chunk.len());
        from.read_exact(&mut chunk[..part]).map_err(ImportError::read(what))?;
        out.write_all(&chunk[..part]).map_err(ImportError::Write)?;
        bytes -= part as u64;
    }
    Ok(())
}
