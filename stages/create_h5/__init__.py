"""Backends of the packaging stage."""
