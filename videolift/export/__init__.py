"""Packaged datasets in other projects' layouts."""
