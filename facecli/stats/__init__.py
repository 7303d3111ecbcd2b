"""Scores to rates: curves, intervals, resampling, probabilities. Numbers in, numbers out."""
