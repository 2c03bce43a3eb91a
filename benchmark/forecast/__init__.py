"""What cells will cost before they run, from records or from measured steps."""
