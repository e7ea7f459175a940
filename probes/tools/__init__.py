"""What several probes use: directions, dense spectra, walls of valleys, scores."""
