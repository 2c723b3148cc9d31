"""A training archive -> a model folder: loop, objective, calibration, cross-validation."""
