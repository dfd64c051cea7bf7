"""Training: recipe, data preparation, collator, trainer, label generation, predictions and the folder of a run."""
