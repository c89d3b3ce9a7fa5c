"""The server: who may ask it, and where it listens; read `app`."""
