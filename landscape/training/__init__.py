"""From a config to updates: state in, state out. Knows no files."""
