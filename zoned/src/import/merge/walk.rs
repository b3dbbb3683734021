//! Where a path leads in the tree: down directories and through symbolic links, as if the image were the
//! root. Nothing else follows links.

use super::super::error::ImportError;
use super::super::limits::{DEPTH_MAX, LINKS_FOLLOWED_MAX};
use super::{Child, Content, IMPLIED, Kind, Node, NodeId, ROOT, Tree, WHITEOUT};
use std::collections::VecDeque;

impl Tree {
    /// The directory of an entry, made if it is not there.
    pub(super) fn folder(
        &mut self,
        layer: u16,
        path: &[u8],
        folders: &[&[u8]],
    ) -> Result<NodeId, ImportError> {
        let folder = self.walk(path, folders, Some(layer))?;
        Ok(folder.expect("what is missing was made"))
    }

    /// Goes down directories, through symbolic links, which count from the image's root. What is missing
    /// is made for this layer, or nothing is found.
    pub(super) fn walk(
        &mut self,
        path: &[u8],
        folders: &[&[u8]],
        make: Option<u16>,
    ) -> Result<Option<NodeId>, ImportError> {
        let refused = |why| Err(ImportError::entry(path, why));
        let mut ahead: VecDeque<Box<[u8]>> = folders.iter().map(|&part| part.into()).collect();
        let (mut trail, mut followed) = (vec![ROOT], 0);
        while let Some(part) = ahead.pop_front() {
            let here = *trail.last().expect("the root stays");
            match &*part {
                b"" | b"." => continue,
                b".." => {
                    // Above the root is the root, as for whoever has it as such.
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(child) = self.child((here, &part)) else {
                let Some(layer) = make else { return Ok(None) };
                // A link may not make what an entry may not.
                let is_whiteout = followed > 0 && part.starts_with(WHITEOUT);
                if is_whiteout || part.len() > erofs::NAME_BYTES_MAX || trail.len() > DEPTH_MAX {
                    return refused("lies behind a link that leads to no usable path");
                }
                let node = self.add(Node::folder(IMPLIED));
                self.name((here, &part), Child { node, layer })?;
                trail.push(node);
                continue;
            };
            match &self.node(child.node).kind {
                Kind::Directory(_) => trail.push(child.node),
                Kind::Symlink(target) => {
                    followed += 1;
                    if followed > LINKS_FOLLOWED_MAX {
                        return refused("lies behind too many links");
                    }
                    if target.starts_with(b"/") {
                        trail.truncate(1);
                    }
                    let parts: Vec<Box<[u8]>> =
                        target.split(|byte| *byte == b'/').map(Into::into).collect();
                    parts.into_iter().rev().for_each(|part| ahead.push_front(part));
                }
                Kind::File(_) | Kind::Fifo if make.is_none() => return Ok(None),
                Kind::File(_) | Kind::Fifo => {
                    return refused("lies in something that is no directory");
                }
            }
            if trail.len() > DEPTH_MAX + 1 {
                return refused("lies in too many directories");
            }
        }
        Ok(trail.last().copied())
    }

    /// A file by its path, if it is one, through links.
    ///
    /// # Errors
    /// [`ImportError::Entry`] for links in a circle.
    pub fn file(&mut self, path: &[u8]) -> Result<Option<Content>, ImportError> {
        let mut path = path.to_vec();
        for _ in 0..LINKS_FOLLOWED_MAX {
            let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return Ok(None) };
            let folders: Vec<&[u8]> = path[..slash].split(|byte| *byte == b'/').collect();
            let Some(folder) = self.walk(&path, &folders, None)? else { return Ok(None) };
            let child = self.child((folder, &path[slash + 1..]));
            match child.map(|child| &self.node(child.node).kind) {
                Some(Kind::File(content)) => return Ok(Some(*content)),
                Some(Kind::Symlink(target)) if target.starts_with(b"/") => path = target.to_vec(),
                Some(Kind::Symlink(target)) => {
                    path.truncate(slash + 1);
                    path.extend_from_slice(target);
                }
                Some(Kind::Directory(_) | Kind::Fifo) | None => return Ok(None),
            }
        }
        Err(ImportError::entry(&path, "lies behind too many links"))
    }
}
