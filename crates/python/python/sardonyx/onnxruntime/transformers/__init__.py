raise ImportError(
    "onnxruntime.transformers is a part of onnxruntime itself, and Sardonyx does not have it: run it in an environment with"
    " onnxruntime; Sardonyx runs the models that it makes"
)
