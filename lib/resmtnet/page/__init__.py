"""The review page: look, correct, train and compare, in a browser."""
