"""The `evaluate` metric for multimodal sentiment, itself a Space."""
