"""One run in its folder: written, read, continued, branched."""
