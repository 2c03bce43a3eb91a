"""A finished cell's encoder outside of its study: exported for other code, or run on other images. Knows no words."""
