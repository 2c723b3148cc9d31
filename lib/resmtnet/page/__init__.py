"""The review page in a browser: choose a study, look at its nodules, correct them, train."""
