"""The readings of a site -> the next version of the model: fine-tuning, gate, registry."""
