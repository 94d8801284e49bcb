"""Image operations without a model: geometry, optical flow, compositing, smoothing."""
