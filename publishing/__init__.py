"""Publishing: checkpoints that load where the project is not installed."""
