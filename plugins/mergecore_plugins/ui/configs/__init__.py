"""Configs: found, opened, composed, edited and saved; read `editing`."""
