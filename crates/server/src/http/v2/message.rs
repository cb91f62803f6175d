//! Messages of the protocol as JSON, in the form of Triton: the names of the schema, and numbers as numbers.

use axum::response::Response;
use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::http;
use crate::{Failure, Reason, proto};

/// A message of the type `name` as an answer.
///
/// # Errors
/// [`Reason::Internal`] if the type is another.
pub(super) fn json(name: &str, message: &impl Message) -> Result<Response, Failure> {
    Ok(http::json(&value(name, message)?))
}

/// A message of the type `name` as a value.
///
/// # Errors
/// [`Reason::Internal`] if the type is another.
pub(super) fn value(name: &str, message: &impl Message) -> Result<Value, Failure> {
    let no_form = || Failure::new(Reason::Internal, "the answer has no form in JSON");
    let descriptor = proto::descriptors().get_message_by_name(name).ok_or_else(no_form)?;
    let message =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(|_| no_form())?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|_| no_form())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{InferStatistics, ModelStatistics, ModelStatisticsResponse, StatisticDuration};

    #[tokio::test]
    async fn numbers_are_numbers() {
        let inference_stats = Some(InferStatistics {
            success: Some(StatisticDuration { count: 2, ns: u64::MAX }),
            ..InferStatistics::default()
        });
        let statistics =
            ModelStatistics { name: "cat".into(), inference_stats, ..ModelStatistics::default() };
        let message = ModelStatisticsResponse { model_stats: vec![statistics] };
        let response = json("inference.ModelStatisticsResponse", &message).unwrap();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let shown = &value["model_stats"][0];
        assert_eq!((&shown["name"], &shown["inference_count"]), (&"cat".into(), &0.into()));
        assert_eq!(shown["inference_stats"]["success"], serde_json::json!({"count": 2, "ns": u64::MAX}));
        assert_eq!(shown["batch_stats"], serde_json::json!([]));
    }
}
