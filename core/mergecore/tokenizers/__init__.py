"""Vocabularies and chat templates of models, as their files state them; read `read` first."""
