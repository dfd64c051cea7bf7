"""Padded arrays, of pickles and `.npz`, to rows."""
