//! The WGSL templates of `shaders/`, compiled into the program and rendered with minijinja.

use std::sync::LazyLock;

use minijinja::{Environment, Error, ErrorKind, State, Value};

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
            let mut environment = Environment::new();
            environment.set_trim_blocks(true);
            environment.set_lstrip_blocks(true);
            environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
            environment.add_function("load", load);
            environment.add_function("computed", computed);
            $(
                let text = include_str!(concat!("../../shaders/", $name, ".wgsl"));
                // The templates are part of the program, and a test renders each of them.
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
    "attention_lanes",
    "attention_shared",
    "block_product",
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
    "each",
    "elementwise",
    "find",
    "gather",
    "gather_elements",
    "gemm_batch",
    "gemm_lanes",
    "gemm_shared",
    "gemm_split",
    "gemm_strided",
    "grid_sample",
    "inverse",
    "linear_attention",
    "lookup",
    "lrn",
    "max_roi_pool",
    "pad",
    "pool",
    "random",
    "recurrent",
    "reduce",
    "resize",
    "reverse_sequence",
    "roi_align",
    "rotary",
    "scan",
    "scatter",
    "scatter_reduce",
    "sort_slices",
    "strided",
    "suppress",
    "svm",
    "tensor_scatter",
    "top_k",
    "trees",
    "winograd_input",
    "winograd_output"
);

/// The name of the operand that has a prologue, for a template that allows one.
fn prologue(state: &State) -> Result<Value, Error> {
    let missing = || Error::new(ErrorKind::UndefinedError, "no prologue is given, which may be empty");
    state.lookup("prologue").ok_or_else(missing)
}

/// `load(name, i, row, column)`: element `i` of the binding, or what its prologue computes from it (see `fused::Prologue`).
fn load(state: &State, name: &str, i: &str, row: &str, column: &str) -> Result<String, Error> {
    Ok(match prologue(state)?.as_str() == Some(name) {
        true => format!("load_{name}({i}, {row}, {column})"),
        false => format!("{name}[{i}]"),
    })
}

/// `computed(value, o, row, column)`: the value of element `o`, or what the prologue computes from it, if there is one.
fn computed(state: &State, value: &str, o: &str, row: &str, column: &str) -> Result<String, Error> {
    Ok(match prologue(state)?.is_true() {
        true => format!("prologue({value}, {o}, {row}, {column})"),
        false => value.into(),
    })
}

/// Renders `shaders/{name}.wgsl`.
pub(crate) fn render(name: &str, context: Value) -> String {
    let rendered = TEMPLATES.get_template(name).and_then(|template| template.render(context));
    rendered.unwrap_or_else(|error| unreachable!("shaders/{name}.wgsl: {error:#}"))
}
