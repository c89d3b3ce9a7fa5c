"""What searches for settings are made of."""
