"""Models of a search are made and scored; read `bench`."""
