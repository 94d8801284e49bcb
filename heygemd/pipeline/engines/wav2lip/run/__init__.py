"""Ways to run the network: torch, ONNX, oneDNN, CUDA graph."""
