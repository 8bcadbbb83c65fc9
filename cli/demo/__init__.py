"""The network and the test images of `onnxpress demo`."""
