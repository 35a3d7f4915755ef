"""Archived alerts: files, folders and tables in, score tables and dead letters out."""
