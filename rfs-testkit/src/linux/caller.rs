//! The thread as one of the callers: its real ids and capabilities, so that the kernel does all the checking.

use rfs_core::{Capabilities, Credential};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Result;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Does something as this caller, and then is root again.
pub(super) fn acting_as<T>(caller: &Credential, act: impl FnOnce() -> T) -> Result<T> {
    if *caller == Credential::root() {
        return Ok(act());
    }
    let full = rustix::thread::capabilities(None)?;
    become_caller(caller, full)?;
    let done = act();
    become_root(full)?;
    Ok(done)
}

fn become_caller(caller: &Credential, full: CapabilitySets) -> Result<()> {
    let groups: Vec<Gid> = caller.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(caller.uid), Gid::from_raw(caller.gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, Gid::ROOT)?;
    // Root stays the saved one: so there is a way back.
    rustix::thread::set_thread_res_uid(uid, uid, Uid::ROOT)?;
    let effective = known().into_iter().filter(|(ours, _)| caller.has(*ours)).map(|(_, theirs)| theirs);
    rustix::thread::set_capabilities(None, CapabilitySets { effective: effective.collect(), ..full })?;
    rustix::process::umask(Mode::from_raw_mode(caller.umask));
    Ok(())
}

fn become_root(full: CapabilitySets) -> Result<()> {
    rustix::thread::set_capabilities(None, full)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_capabilities(None, full)?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

fn known() -> [(Capabilities, CapabilitySet); 8] {
    [
        (Capabilities::CHOWN, CapabilitySet::CHOWN),
        (Capabilities::DAC_OVERRIDE, CapabilitySet::DAC_OVERRIDE),
        (Capabilities::DAC_READ_SEARCH, CapabilitySet::DAC_READ_SEARCH),
        (Capabilities::FOWNER, CapabilitySet::FOWNER),
        (Capabilities::FSETID, CapabilitySet::FSETID),
        (Capabilities::MKNOD, CapabilitySet::MKNOD),
        (Capabilities::SYS_ADMIN, CapabilitySet::SYS_ADMIN),
        (Capabilities::SETFCAP, CapabilitySet::SETFCAP),
    ]
}
