//! Mounts, used as programs use them: through the system calls of Linux.

mod common;
mod invalidation;
mod like_tmpfs;
mod limits;
mod names;
mod unlinked;
mod unmounting;
