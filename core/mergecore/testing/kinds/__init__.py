"""Checks of all kinds of plugins but merge methods: what each keeps, property by property."""
