"""Floors and walls of functions of one variable."""
