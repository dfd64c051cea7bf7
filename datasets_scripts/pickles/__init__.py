"""Feature pickles, read without running what a pickle can run."""
