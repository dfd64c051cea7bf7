"""Computational sequences of CMU-MultimodalSDK."""
