"""Records on disk to pandas tables, intervals and printed tables; imports nothing else of ours and never torch."""
