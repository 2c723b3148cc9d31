"""Adaptors between MONAI Label and the package; with `server` the only part that imports it."""
