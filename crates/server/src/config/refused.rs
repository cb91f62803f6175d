//! What a configuration may ask for and no model of this server does. It is refused in words; what only tunes another runtime is
//! passed over, and the log says so.

use crate::proto::ModelConfig;
use crate::proto::model_input::Format;

/// The backends that run ONNX files.
const BACKENDS: [&str; 3] = ["", "onnxruntime", "sardonyx"];

/// The platforms of ONNX files.
const PLATFORMS: [&str; 4] = ["", "onnxruntime_onnx", "onnx_onnxv1", "onnx"];

/// The platform of a model that other models run.
pub(super) const ENSEMBLE: &str = "ensemble";

/// Says why the model cannot be served as the configuration asks.
pub(super) fn refuse(config: &ModelConfig) -> Result<(), String> {
    if !PLATFORMS.contains(&config.platform.as_str()) && config.platform != ENSEMBLE {
        return Err(format!(
            "platform '{}' is not served; leave it out, or write 'onnxruntime_onnx' for an ONNX file",
            config.platform
        ));
    }
    if !BACKENDS.contains(&config.backend.as_str()) {
        return Err(format!(
            "backend '{}' is not served; leave it out, or write 'onnxruntime' for an ONNX file",
            config.backend
        ));
    }
    let input = |what: &str, has: fn(&crate::proto::ModelInput) -> bool| {
        config.input.iter().find(|input| has(input)).map(|input| format!("input '{}': {what}", input.name))
    };
    let output = |what: &str, has: fn(&crate::proto::ModelOutput) -> bool| {
        config
            .output
            .iter()
            .find(|output| has(output))
            .map(|output| format!("output '{}': {what}", output.name))
    };
    let whole = |what: &str, has: bool| has.then(|| what.to_string());
    let policy = config.model_transaction_policy.as_ref();
    let refused = [
        whole("runtime is not chosen here; leave it out", !config.runtime.is_empty()),
        whole(
            "batch_input is not served; the server joins inputs as they are",
            !config.batch_input.is_empty(),
        ),
        whole(
            "batch_output is not served; the server splits outputs by their first dimension",
            !config.batch_output.is_empty(),
        ),
        whole(
            "cc_model_filenames is not served; use default_model_filename",
            !config.cc_model_filenames.is_empty(),
        ),
        whole(
            "model_operations is not served: there are no libraries of operators",
            config
                .model_operations
                .as_ref()
                .is_some_and(|operations| !operations.op_library_filename.is_empty()),
        ),
        whole(
            "model_repository_agents are not served; give sha256 parameters to check files",
            config.model_repository_agents.as_ref().is_some_and(|agents| !agents.agents.is_empty()),
        ),
        whole(
            "model_transaction_policy { decoupled: true } is not served: an ONNX model has one answer for each request",
            policy.is_some_and(|policy| policy.decoupled),
        ),
        input("is_shape_tensor is not served; the ONNX file says what an input is for", |input| {
            input.is_shape_tensor
        }),
        input("is_non_linear_format_io is not served", |input| input.is_non_linear_format_io),
        input("reshape is not served; write in dims what the ONNX file takes", |input| {
            input.reshape.as_ref().is_some_and(|reshape| reshape.shape != input.dims)
        }),
        input("the format has no such number", |input| Format::try_from(input.format).is_err()),
        output("is_shape_tensor is not served; the ONNX file says what an output is for", |output| {
            output.is_shape_tensor
        }),
        output("is_non_linear_format_io is not served", |output| output.is_non_linear_format_io),
        output("reshape is not served; write in dims what the ONNX file gives", |output| {
            output.reshape.as_ref().is_some_and(|reshape| reshape.shape != output.dims)
        }),
    ];
    refused.into_iter().flatten().next().map_or(Ok(()), Err)
}

/// The fields that have no effect here.
pub(super) fn passed_over(config: &ModelConfig) -> Vec<&'static str> {
    let optimization = config.optimization.clone().unwrap_or_default();
    let group = |has: fn(&crate::proto::ModelInstanceGroup) -> bool| config.instance_group.iter().any(has);
    let fields = [
        ("optimization.graph", optimization.graph.is_some()),
        ("optimization.priority", optimization.priority != 0),
        ("optimization.cuda", optimization.cuda.is_some()),
        ("optimization.execution_accelerators", optimization.execution_accelerators.is_some()),
        ("optimization.gather_kernel_buffer_threshold", optimization.gather_kernel_buffer_threshold != 0),
        ("optimization.eager_batching", optimization.eager_batching),
        ("instance_group.rate_limiter", group(|group| group.rate_limiter.is_some())),
        ("instance_group.profile", group(|group| !group.profile.is_empty())),
        ("instance_group.host_policy", group(|group| !group.host_policy.is_empty())),
        ("model_metrics", config.model_metrics.is_some()),
    ];
    fields.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
}
