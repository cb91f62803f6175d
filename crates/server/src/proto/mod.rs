//! The messages and the service of the Open Inference Protocol, the messages of a model's configuration, and TensorFlow Serving's
//! protocol.
//!
//! `tests/proto.rs` generates what is here from `proto/`.
#![allow(missing_docs, rustdoc::all, clippy::all)] // Generated code.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

include!("inference.rs");

/// TensorFlow's messages.
pub mod tensorflow {
    include!("tensorflow.rs");

    /// The protocol of TensorFlow Serving.
    pub mod serving {
        include!("tensorflow.serving.rs");
    }
}

/// The descriptors of the messages and the service as a `google.protobuf.FileDescriptorSet`, as reflection serves them.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("inference.bin");

/// The descriptors of the messages and the service.
#[allow(clippy::expect_used)] // The bytes are part of the program.
pub fn descriptors() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(FILE_DESCRIPTOR_SET)
            .expect("the descriptors are those that tests/proto.rs wrote")
    });
    &POOL
}
