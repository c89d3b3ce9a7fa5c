"""Kinds of adapters beside LoRA; read `others` first."""
