"""Ways to run the network: torch, ONNX, oneDNN, CUDA graph.

May import: common, contract, pipeline.engines.wav2lip.box, pipeline.engines.wav2lip.network, pipeline.image.
"""
