"""Training data: sources, our archive, consensus of readers, splits, batches."""
