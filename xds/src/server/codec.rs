//! Requests as they come and responses as they go, for tonic. Knows bytes; what they mean is read next door.

use std::marker::PhantomData;

use tonic::Status;
use tonic::codec::{self, DecodeBuf, Decoder};
use tonic::codegen::Bytes;
use tonic_prost::ProstEncoder;

use super::dialect::Dialect;

/// The codec of a dialect.
pub(super) struct Codec<D>(PhantomData<D>);

impl<D> Default for Codec<D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<D: Dialect> codec::Codec for Codec<D> {
    type Encode = D::Wire;
    type Decode = Option<D::Request>;
    type Encoder = ProstEncoder<D::Wire>;
    type Decoder = Requests<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Requests(PhantomData)
    }
}

/// Reads requests; one of a type that is not served is nothing.
pub(super) struct Requests<D>(PhantomData<D>);

impl<D: Dialect> Decoder for Requests<D> {
    type Item = Option<D::Request>;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        use bytes::Buf;
        let length = message.remaining();
        let message: Bytes = message.copy_to_bytes(length);
        D::read(&message).map(Some)
    }
}
