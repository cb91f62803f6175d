//! The WGSL templates of `shaders/`, compiled into the program and rendered with minijinja.

use std::sync::LazyLock;

use minijinja::{Environment, Value};

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
            let mut environment = Environment::new();
            environment.set_trim_blocks(true);
            environment.set_lstrip_blocks(true);
            environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
            $(
                let text = include_str!(concat!("../../shaders/", $name, ".wgsl"));
                // The templates are part of the program; a test renders each.
                if let Err(error) = environment.add_template($name, text) {
                    unreachable!("shaders/{}.wgsl: {error:#}", $name);
                }
            )*
            environment
        });
    };
}

templates!(
    "affine_grid",
    "attention",
    "attention_bias",
    "attention_shared",
    "causal_conv",
    "col2im",
    "contract",
    "conv",
    "conv_depthwise",
    "conv_lanes",
    "conv_transpose",
    "deform_conv",
    "det",
    "dft",
    "elementwise",
    "gather",
    "gather_elements",
    "gemm_batch",
    "gemm_lanes",
    "gemm_shared",
    "gemm_split",
    "gemm_strided",
    "grid_sample",
    "linear_attention",
    "lrn",
    "max_roi_pool",
    "pad",
    "pool",
    "recurrent",
    "reduce",
    "resize",
    "reverse_sequence",
    "roi_align",
    "rotary",
    "scan",
    "scatter",
    "scatter_reduce",
    "strided",
    "tensor_scatter",
    "top_k"
);

/// Renders `shaders/{name}.wgsl`.
pub(crate) fn render(name: &str, context: Value) -> String {
    let rendered = TEMPLATES.get_template(name).and_then(|template| template.render(context));
    rendered.unwrap_or_else(|error| unreachable!("shaders/{name}.wgsl: {error:#}"))
}
