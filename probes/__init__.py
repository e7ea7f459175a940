"""Probes: one question per file."""
