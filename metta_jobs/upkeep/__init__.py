"""Keeping a state folder healthy: what is old goes, what is wrong is told, what is broken is mended."""
