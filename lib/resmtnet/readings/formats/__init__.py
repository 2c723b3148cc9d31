"""What viewers send and get, both ways: masks, markups, label text."""
