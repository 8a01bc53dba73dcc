"""Hand poses, both sides, by one of several backends: MediaPipe, WiLoR; geometry and time are shared."""
