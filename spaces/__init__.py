"""Hugging Face Spaces of the collection: a demo, and the metric that scores every model."""
