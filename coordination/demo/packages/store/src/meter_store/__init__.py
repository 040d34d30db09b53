"""Meter readings, kept in a file of JSON lines."""

from meter_store.book import Book, Reading

__all__ = ["Book", "Reading"]
