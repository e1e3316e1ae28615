//! For whom a request of the kernel is run.

use fuser::Request;
use rfs::{Attr, Capabilities, Credential};

const SET_ID: u32 = 0o6000;
/// The number of `CAP_FSETID` in `capabilities(7)`.
const CAP_FSETID: u32 = 4;
/// The number of `CAP_SYS_ADMIN`.
const CAP_SYS_ADMIN: u32 = 21;

/// The process that asks. It can be looked at for as long as it waits for the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    uid: u32,
    gid: u32,
    pid: u32,
}

impl Asking {
    pub(crate) fn of(request: &Request) -> Self {
        Self { uid: request.uid(), gid: request.gid(), pid: request.pid() }
    }

    /// Who asks. The kernel has checked permissions, so all rights are there but those that it leaves to us.
    pub(crate) fn caller(self) -> Credential {
        self.with_umask(0)
    }

    /// Who makes something. The kernel leaves the umask to us, since a default ACL of the directory comes before it.
    pub(crate) fn with_umask(self, umask: u32) -> Credential {
        let quota = if self.uid == 0 { Capabilities::NONE } else { Capabilities::SYS_RESOURCE };
        Credential {
            uid: self.uid,
            gid: self.gid,
            groups: Vec::new(),
            umask: umask & 0o777,
            capabilities: Capabilities::ALL.without(quota),
        }
    }

    /// Who changes the content of a file: whether that clears set-user-id and set-group-id depends on a capability that
    /// the request does not tell. It is looked up, which is dear, only for files that have one of the two.
    pub(crate) fn writer(self, file: &Attr) -> Credential {
        if file.mode & SET_ID == 0 || self.process().has(CAP_FSETID) {
            return self.caller();
        }
        without_set_id(self.caller())
    }

    /// Who sets an ACL: it may take set-group-id away from a file of a group that the caller is not in.
    pub(crate) fn acl_setter(self, file: &Attr) -> Credential {
        let mut caller = self.caller();
        if file.mode & SET_ID != 0 {
            let process = self.process();
            if !process.has(CAP_FSETID) {
                caller = without_set_id(caller);
            }
            caller.groups = process.groups;
        }
        caller
    }

    /// Who lists extended attributes: those of administrators are not shown to others, and the kernel leaves that to us.
    pub(crate) fn lister(self) -> Credential {
        let mut caller = self.caller();
        if !self.process().has(CAP_SYS_ADMIN) {
            caller.capabilities = caller.capabilities.without(Capabilities::SYS_ADMIN);
        }
        caller
    }

    /// Reads it from `/proc`. Of a process that cannot be seen, as in another container, the user decides.
    fn process(self) -> Process {
        let status = match self.pid {
            0 => String::new(),
            pid => std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(),
        };
        Process::parse(&status).unwrap_or_else(|| Process {
            capabilities: if self.uid == 0 { u64::MAX } else { 0 },
            groups: Vec::new(),
        })
    }
}

/// The same, where the kernel has said that set-user-id and set-group-id are cleared.
pub(crate) fn without_set_id(caller: Credential) -> Credential {
    Credential { capabilities: caller.capabilities.without(Capabilities::FSETID), ..caller }
}

/// What a request does not tell of its process.
struct Process {
    capabilities: u64,
    groups: Vec<u32>,
}

impl Process {
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let capabilities = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
        let groups = field("Groups:")?.split_whitespace().filter_map(|group| group.parse().ok()).collect();
        Some(Self { capabilities, groups })
    }

    const fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_capabilities_and_groups_of_a_process() {
        let process = Process::parse("Name:\tx\nGroups:\t4 27 100 \nCapEff:\t0000000000000010\n")
            .expect("it is complete");
        assert_eq!(process.groups, [4, 27, 100]);
        assert!(process.has(CAP_FSETID) && !process.has(CAP_SYS_ADMIN));
        assert!(Process::parse("Name:\tx\n").is_none());
    }
}
