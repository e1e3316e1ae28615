//! The cursor of an open file: tokio's traits.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rfs_core::{Errno, WriteAt};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use super::{File, State, WRITE_BYTES};

/// How far one read looks.
const READ_BYTES: u64 = 1 << 20;

impl AsyncRead for File {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.readable("read")?;
        if !matches!(self.state.get_mut(), State::Reading(_)) {
            let (held, at) = (Arc::clone(&self.held), self.cursor);
            let len = READ_BYTES.min(buffer.remaining() as u64);
            *self.state.get_mut() = State::Reading(Box::pin(async move { held.read(at, len).await }));
        }
        let State::Reading(reading) = self.state.get_mut() else { unreachable!("it was just set") };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else { return Poll::Pending };
        *self.state.get_mut() = State::Idle;
        for piece in read? {
            // A read that was begun for a larger buffer gives the rest when it is asked again.
            let taken = &piece[..piece.len().min(buffer.remaining())];
            buffer.put_slice(taken);
            self.cursor += taken.len() as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for File {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writable("write")?;
        if !matches!(self.state.get_mut(), State::Admitting(_)) {
            *self.state.get_mut() = State::Idle;
            if let Some(done) = self.write_on(bytes) {
                return Poll::Ready(Ok(done));
            }
            if !self.held.admit_now()? {
                let held = Arc::clone(&self.held);
                *self.state.get_mut() = State::Admitting(Box::pin(async move { held.admit().await }));
            }
        }
        loop {
            if let State::Admitting(admitting) = self.state.get_mut() {
                let Poll::Ready(admitted) = admitting.as_mut().poll(cx) else { return Poll::Pending };
                *self.state.get_mut() = State::Idle;
                admitted?;
            }
            // Only waiting outlives a call, for room and for pages: what is written is what this call was given.
            let (piece, at) = self.next_write(bytes);
            match self.held.write_now(piece, at)? {
                Ok(offset) => {
                    self.cursor = offset + piece.len() as u64;
                    return Poll::Ready(Ok(piece.len()));
                }
                Err(missing) => {
                    let shared = Arc::clone(&self.held.handle.shared);
                    let load = async move { shared.load(&missing).await };
                    *self.state.get_mut() = State::Admitting(Box::pin(load));
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for File {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        *self.state.get_mut() = match to {
            SeekFrom::Start(offset) => State::Seeking(moved(offset, 0)?),
            SeekFrom::Current(by) => State::Seeking(moved(self.cursor, by)?),
            SeekFrom::End(by) => {
                let held = Arc::clone(&self.held);
                State::SeekingFromEnd(Box::pin(async move { held.size().await }), by)
            }
        };
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let to = match self.state.get_mut() {
            State::Seeking(to) => Ok(*to),
            State::SeekingFromEnd(size, by) => {
                let by = *by;
                let Poll::Ready(size) = size.as_mut().poll(cx) else { return Poll::Pending };
                size.map_err(io::Error::from).and_then(|size| moved(size, by))
            }
            _ => return Poll::Ready(Ok(self.cursor)),
        };
        *self.state.get_mut() = State::Idle;
        self.cursor = to?;
        Poll::Ready(Ok(self.cursor))
    }
}

impl File {
    /// Writes at the cursor, if that only goes on what was appended last. Nothing has to be waited for then.
    pub(crate) fn write_on(&mut self, bytes: &[u8]) -> Option<usize> {
        if !self.access.write || !matches!(self.state.get_mut(), State::Idle) {
            return None;
        }
        let (piece, at) = self.next_write(bytes);
        self.cursor = self.held.go_on(piece, at)? + piece.len() as u64;
        Some(piece.len())
    }

    /// What is written next of these bytes, and where.
    fn next_write<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], WriteAt) {
        let at = if self.append { WriteAt::End } else { WriteAt::Offset(self.cursor) };
        (&bytes[..bytes.len().min(WRITE_BYTES)], at)
    }
}

fn moved(from: u64, by: i64) -> io::Result<u64> {
    let to = from.checked_add_signed(by).filter(|to| *to <= rfs_core::FILE_SIZE_MAX);
    Ok(to.ok_or(Errno::Invalid)?)
}
