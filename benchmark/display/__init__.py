"""What a person sees while cells run and in tables of text; knows nothing of what it shows."""
