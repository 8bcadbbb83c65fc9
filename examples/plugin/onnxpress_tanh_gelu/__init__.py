"""A plugin for onnxpress: the pass `tanh-gelu`, and a pipeline that uses it."""

NO_ERF = "fold,tanh-gelu,dce"
"""The text of the named pipeline `no-erf`."""
