"""The arithmetic of adapters that are merged: products of factors, and changes that are collected."""
