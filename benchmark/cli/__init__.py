"""What a person types and reads: commands, help, listings, reports. May import everything."""
