"""Numerics that know no network."""
