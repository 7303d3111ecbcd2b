"""Labelled comparisons: who was compared with whom, and with which score."""
