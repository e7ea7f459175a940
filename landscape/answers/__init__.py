"""Probes asked at checkpoints, and what they answered, kept on disk."""
