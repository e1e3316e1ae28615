//! The model's extended attributes: what root may do with all but the ACLs.

use rfs_core::{Errno, Kind, XATTR_NAME_MAX, XATTR_VALUE_MAX, XattrMode};

use super::{ModelFs, Outcome};
use crate::{Value, What, XattrText};

impl ModelFs {
    pub(super) fn set_xattr(
        &mut self,
        what: &What,
        name: &XattrText,
        value: &XattrText,
        mode: XattrMode,
    ) -> Outcome {
        self.check_name(what, &name.0)?;
        if value.0.len() > XATTR_VALUE_MAX {
            return Err(Errno::ListTooLong);
        }
        let node = self.find(what)?;
        check_namespace(&name.0, self.node(node).kind, Errno::NotPermitted)?;
        match (mode, self.node(node).xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Errno::Exists),
            (XattrMode::Replace, false) => return Err(Errno::NoAttribute),
            _ => {}
        }
        self.node_mut(node).xattrs.insert(name.clone(), value.clone());
        Ok(Value::Unit)
    }

    pub(super) fn get_xattr(&self, what: &What, name: &XattrText) -> Outcome {
        self.check_name(what, &name.0)?;
        let node = self.node(self.find(what)?);
        check_namespace(&name.0, node.kind, Errno::NoAttribute)?;
        node.xattrs.get(name).map(|value| Value::Bytes(value.0.clone())).ok_or(Errno::NoAttribute)
    }

    pub(super) fn remove_xattr(&mut self, what: &What, name: &XattrText) -> Outcome {
        self.check_name(what, &name.0)?;
        let node = self.find(what)?;
        check_namespace(&name.0, self.node(node).kind, Errno::NotPermitted)?;
        let removed = self.node_mut(node).xattrs.remove(name);
        removed.map(|_| Value::Unit).ok_or(Errno::NoAttribute)
    }

    /// The name is looked at before the path.
    fn check_name(&self, what: &What, name: &[u8]) -> Result<(), Errno> {
        if let What::Handle(slot) = what {
            self.handle(*slot)?;
        }
        if name.is_empty() || name.len() > XATTR_NAME_MAX { Err(Errno::Range) } else { Ok(()) }
    }
}

/// `on_others` is what an attribute of users meets on what is neither file nor directory.
fn check_namespace(name: &[u8], kind: Kind, on_others: Errno) -> Result<(), Errno> {
    let names = [b"user.".as_slice(), b"trusted.", b"security."];
    if name.starts_with(b"user.") && !matches!(kind, Kind::File | Kind::Directory) {
        return Err(on_others);
    }
    match names.iter().find(|namespace| name.starts_with(namespace)) {
        None => Err(Errno::NotSupported),
        Some(namespace) if namespace.len() == name.len() => Err(Errno::Invalid),
        Some(_) => Ok(()),
    }
}
