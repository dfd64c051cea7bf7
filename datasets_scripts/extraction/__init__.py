"""From a folder of media to a prepared folder: clips, the processes that extract them, their results, the rows."""
