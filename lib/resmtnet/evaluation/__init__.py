"""How good the answers are: figures with intervals beside baselines, as JSON, HTML and Markdown."""
