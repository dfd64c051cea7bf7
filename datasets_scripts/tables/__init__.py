"""Tables of transcripts and labels."""
