"""Scores many CTs: one row a nodule, resumable, whatever single studies are like."""
