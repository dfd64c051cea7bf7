"""The page of the demo: what it asks, what it refuses, and how it shows an answer."""
