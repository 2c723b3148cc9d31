"""`make demo`: what the app answers, and how it learns from a reader, without any data of yours."""
