"""The study of `tune`: what is tried next, which launcher has which trial, and what was chosen. Imports no torch."""
