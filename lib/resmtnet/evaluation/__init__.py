"""Evaluation of a model: figures with intervals beside baselines, as JSON, HTML and Markdown."""
