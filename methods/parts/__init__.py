"""What several methods share: equations, memories, heads."""
