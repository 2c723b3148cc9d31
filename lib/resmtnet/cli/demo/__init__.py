"""`make demo`: shows the app's answers and how it learns from a reader; needs no data."""
