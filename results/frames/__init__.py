"""Records as frames of pandas, and how their columns and configurations are called; knows no statistics."""
