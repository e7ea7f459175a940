"""What several tests share: oracles, builders of data sets, workers, the rooms of the package."""
