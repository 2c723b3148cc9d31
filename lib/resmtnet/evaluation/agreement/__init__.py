"""How far a site's readers and the model agree: figures over time as JSON and one HTML page."""
