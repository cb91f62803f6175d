//! `Codec`: prost's codec, whose work on large messages holds up nobody else.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tokio::runtime::{Handle, RuntimeFlavor};
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

/// The bytes of a message that is read or written on the reactor. Of numbers one by one, as of `int64_contents`, so many take
/// milliseconds.
const SMALL: usize = 256 << 10;

/// Reads messages `U`, and writes messages `T`.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Codec<T, U> {
        Codec(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Aside<<ProstCodec<T, U> as tonic::codec::Codec>::Encoder>;
    type Decoder = Aside<<ProstCodec<T, U> as tonic::codec::Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        Aside(ProstCodec::<T, U>::default().encoder())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Aside(ProstCodec::<T, U>::default().decoder())
    }
}

/// A reader or a writer of messages that leaves the reactor where a message is large.
#[derive(Debug)]
pub(crate) struct Aside<C>(C);

impl<C: Decoder<Error = Status>> Decoder for Aside<C> {
    type Item = C::Item;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<C::Item>, Status> {
        aside(buf.remaining(), || self.0.decode(buf))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

impl<C: Encoder<Error = Status, Item: Message>> Encoder for Aside<C> {
    type Item = C::Item;
    type Error = Status;

    fn encode(&mut self, item: C::Item, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        aside(item.encoded_len(), || self.0.encode(item, buf))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Does `work` on a message of so many bytes. The reactor's other tasks go to another thread meanwhile, where there may be one.
fn aside<R>(bytes: usize, work: impl FnOnce() -> R) -> R {
    let has_threads = || {
        let runtime = Handle::try_current();
        runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
    };
    match bytes > SMALL && has_threads() {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// The work ends only when another task of the only thread has had its turn.
    #[test]
    fn large_messages_hold_up_nobody() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).build().unwrap();
        let waits = |bytes, patience| {
            let (turn, turns) = channel();
            let task = async move {
                tokio::spawn(async move { turn.send(()) });
                aside(bytes, || turns.recv_timeout(patience).is_ok())
            };
            runtime.block_on(runtime.spawn(task)).unwrap()
        };
        assert!(waits(SMALL + 1, Duration::from_secs(60)));
        assert!(!waits(SMALL, Duration::from_millis(100)), "what is small is done where it is");
        let alone = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(alone.block_on(async { aside(SMALL + 1, || true) }));
    }
}
