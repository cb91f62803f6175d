//! The configuration as clients read it.

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::Config;
use super::read::descriptor;
use crate::proto::ModelConfig;
use crate::{Failure, Reason};

impl Config {
    /// The complete configuration as JSON in the form that Triton gives it: protobuf's names of fields, names of enum values,
    /// numbers as numbers, and fields that have their default.
    ///
    /// # Errors
    /// None that a configuration causes.
    pub fn to_json(&self) -> Result<Value, Failure> {
        json(&self.shown)
    }
}

/// A configuration as [`Config::to_json`] has it.
///
/// # Errors
/// None that a configuration causes.
pub fn json(config: &ModelConfig) -> Result<Value, Failure> {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    let lost =
        |error: String| Failure::new(Reason::Internal, format!("the configuration cannot be shown: {error}"));
    let message = DynamicMessage::decode(descriptor()?, config.encode_to_vec().as_slice());
    let message = message.map_err(|error| lost(error.to_string()))?;
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| lost(error.to_string()))
}
