"""A CT and a point -> a Finding: ensemble, mask, post-processing, calibration, candidates."""
