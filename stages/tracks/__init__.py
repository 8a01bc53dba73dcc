"""3D point tracks for every window of a clip, by one of several backends: chained optical flow, a learned tracker."""
