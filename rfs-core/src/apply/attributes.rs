//! Changes of attributes.

use super::{Misfit, permissions};
use crate::xattr::fits;
use crate::{Ino, Timestamp, Tree, XattrName, XattrValue};

impl Tree {
    pub(super) fn set_attr(
        &mut self,
        ino: Ino,
        mode: Option<u32>,
        (uid, gid): (Option<u32>, Option<u32>),
        (accessed, modified): (Option<Timestamp>, Option<Timestamp>),
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let mut inode = self.get(ino)?.clone();
        if let Some(mode) = mode {
            inode.mode = permissions(mode)?;
        }
        inode.uid = uid.unwrap_or(inode.uid);
        inode.gid = gid.unwrap_or(inode.gid);
        inode.times.accessed = accessed.unwrap_or(inode.times.accessed);
        inode.times.modified = modified.unwrap_or(inode.times.modified);
        inode.times.changed = time;
        self.put_inode(ino, inode)?;
        Ok(())
    }

    pub(super) fn set_xattr(
        &mut self,
        ino: Ino,
        name: &XattrName,
        value: &XattrValue,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let mut inode = self.get(ino)?.clone();
        if !fits(&inode, name, value) {
            return Err(Misfit::Xattr { ino, name: name.clone() });
        }
        inode.times.changed = time;
        let key = (ino, name.clone());
        self.xattrs.load(&key)?;
        self.put_inode(ino, inode)?;
        self.xattrs.insert(key, value.clone())?;
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, ino: Ino, name: &XattrName, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.get(ino)?.clone();
        let key = (ino, name.clone());
        self.xattrs.load(&key)?;
        if self.xattrs.remove(&key)?.is_none() {
            return Err(Misfit::NoXattr { ino, name: name.clone() });
        }
        inode.times.changed = time;
        self.put_inode(ino, inode)?;
        Ok(())
    }

    pub(super) fn access(&mut self, ino: Ino, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.get(ino)?.clone();
        inode.times.accessed = time;
        self.put_inode(ino, inode)?;
        Ok(())
    }
}
