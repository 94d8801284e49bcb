"""Where the face is: detection, landmarks, tracking, shots, occlusion."""
