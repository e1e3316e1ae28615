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
            let held = Arc::clone(&self.held);
            *self.state.get_mut() = State::Admitting(Box::pin(async move { held.admit().await }));
        }
        let State::Admitting(admitting) = self.state.get_mut() else { unreachable!("it was just set") };
        let Poll::Ready(admitted) = admitting.as_mut().poll(cx) else { return Poll::Pending };
        *self.state.get_mut() = State::Idle;
        admitted?;
        // Only waiting for room outlives a call: what is written is what this call was given.
        let piece = &bytes[..bytes.len().min(WRITE_BYTES)];
        let at = if self.append { WriteAt::End } else { WriteAt::Offset(self.cursor) };
        self.cursor = self.held.write(piece, at)? + piece.len() as u64;
        Poll::Ready(Ok(piece.len()))
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
        let (from, by) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(by) => (self.cursor, by),
            SeekFrom::End(by) => (self.metadata()?.len(), by),
        };
        let to = from.checked_add_signed(by).filter(|to| *to <= rfs_core::FILE_SIZE_MAX);
        *self.state.get_mut() = State::Seeking(to.ok_or(Errno::Invalid)?);
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        if let State::Seeking(to) = *self.state.get_mut() {
            self.cursor = to;
            *self.state.get_mut() = State::Idle;
        }
        Poll::Ready(Ok(self.cursor))
    }
}
