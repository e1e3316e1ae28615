//! POSIX error numbers, as Linux numbers them.

use thiserror::Error;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why an Op was refused, in POSIX's words and Linux's numbers.
        ///
        /// ```
        /// use rfs_core::Errno;
        /// let error = std::io::Error::from(Errno::NotEmpty);
        /// assert_eq!(error.raw_os_error(), Some(39));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
        #[non_exhaustive]
        pub enum Errno {
            $($(#[$doc])* #[error($text)] $name,)*
        }

        impl Errno {
            /// The number that Linux gives this error.
            #[must_use]
            pub const fn raw(self) -> i32 {
                match self { $(Self::$name => $number,)* }
            }

            /// The error with Linux's number `raw`, if rfs knows it.
            #[must_use]
            pub const fn from_raw(raw: i32) -> Option<Self> {
                match raw { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

errnos! {
    /// `EPERM`
    NotPermitted = 1, "operation not permitted (EPERM)";
    /// `ENOENT`
    NotFound = 2, "no such file or directory (ENOENT)";
    /// `ENXIO`
    NoSuchData = 6, "no data past this offset, or an inode that only a kernel can open (ENXIO)";
    /// `E2BIG`
    ListTooLong = 7, "the value is over 64 KiB (E2BIG)";
    /// `EBADF`
    BadHandle = 9, "the handle is not open for this (EBADF)";
    /// `EAGAIN`
    WouldBlock = 11, "another owner holds a conflicting lock (EAGAIN)";
    /// `EACCES`
    AccessDenied = 13, "permission denied (EACCES)";
    /// `EBUSY`
    Busy = 16, "the directory is in use by the volume itself (EBUSY)";
    /// `EEXIST`
    Exists = 17, "the name exists (EEXIST)";
    /// `EXDEV`
    CrossVolume = 18, "the two are not of the same volume (EXDEV)";
    /// `ENOTDIR`
    NotADirectory = 20, "a part of the path is not a directory (ENOTDIR)";
    /// `ENODEV`
    NoDevice = 19, "the operation is not for this kind of inode (ENODEV)";
    /// `EISDIR`
    IsADirectory = 21, "it is a directory (EISDIR)";
    /// `EINVAL`
    Invalid = 22, "invalid argument (EINVAL)";
    /// `EFBIG`
    TooBig = 27, "the file would grow past 2^63-1 bytes, or the batch past its limit (EFBIG)";
    /// `ENOSPC`
    NoSpace = 28, "no space left: the volume's quota is used up (ENOSPC)";
    /// `ESPIPE`
    IllegalSeek = 29, "the operation is not for a pipe (ESPIPE)";
    /// `EROFS`
    ReadOnly = 30, "the volume is open read-only (EROFS)";
    /// `EMLINK`
    TooManyLinks = 31, "too many links (EMLINK)";
    /// `ERANGE`
    Range = 34, "the name of an extended attribute has to have 1 to 255 bytes (ERANGE)";
    /// `EDEADLK`
    Deadlock = 35, "waiting for the lock would never end: its holder waits for this owner (EDEADLK)";
    /// `ENAMETOOLONG`
    NameTooLong = 36, "a name is over 255 bytes, or the path over 4095 (ENAMETOOLONG)";
    /// `ENOTEMPTY`
    NotEmpty = 39, "the directory is not empty (ENOTEMPTY)";
    /// `ELOOP`
    TooManySymlinks = 40, "too many symbolic links on the way (ELOOP)";
    /// `ENODATA`
    NoAttribute = 61, "there is no such extended attribute (ENODATA)";
    /// `EOVERFLOW`
    Overflow = 75, "the range ends past what a file can have (EOVERFLOW)";
    /// `EOPNOTSUPP`
    NotSupported = 95, "not supported (EOPNOTSUPP)";
    /// `ESTALE`
    Stale = 116, "the inode is gone (ESTALE)";
    /// `EDQUOT`
    QuotaExceeded = 122, "the user's quota is used up (EDQUOT)";
    /// `ECANCELED`
    Canceled = 125, "a precondition of the batch does not hold (ECANCELED)";
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn numbers_are_those_of_this_system() {
        for errno in [Errno::NotFound, Errno::NotEmpty, Errno::TooManySymlinks, Errno::Exists] {
            assert_eq!(Errno::from_raw(errno.raw()), Some(errno));
            let io = std::io::Error::from(errno);
            assert_ne!(io.kind(), std::io::ErrorKind::Other, "{errno}");
        }
    }
}
