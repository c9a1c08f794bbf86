"""Metrics, one file a task."""
