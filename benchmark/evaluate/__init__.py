"""Frozen encoders to numbers, under one protocol for all methods; knows no folder of a cell, only what it holds."""
