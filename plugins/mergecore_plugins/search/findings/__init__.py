"""What a search comes to, and what it leaves; read `deciding`, then `results`."""
