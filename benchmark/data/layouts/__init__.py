"""Where images lie that are no plain folder of classes: published archives, tar shards, Hugging Face datasets."""
