"""One cell on disk: its folder, who works on it, its run and record, and what is evaluated of it later."""
