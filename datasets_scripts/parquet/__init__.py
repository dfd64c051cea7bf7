"""Parquet of one's own."""
