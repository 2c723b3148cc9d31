"""What benchmarks/intruder.py tries on a server, with the standard library alone."""
